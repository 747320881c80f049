// ICICLE (Ingonyama, MIT; of the two the one whose CUDA backend has its source, open-icicle) as a peer: its sums and
// its transform with scalars, points and vectors on the device. See peer.h.
//
// `icicle:CUDA:N`, our device, has vectors in the host's memory, and copies in its times; here there are none. Points
// are made canonical once, which is the form that it computes on without converting them each time. What is its own
// affair is left to it: the width of windows, the algorithm of a transform, what it allocates for each call.

#include "peer.h"

#include <dlfcn.h>

#include <memory>
#include <stdexcept>
#include <string>

#include "icicle/api/bn254.h"
#include "icicle/runtime.h"

extern "C" eIcicleError bn254_get_root_of_unity(uint64_t max_size, bn254::scalar_t* root);

namespace {

using bn254::scalar_t;

std::string error;

// Its libraries throw through C functions; none may leave this one.
template <typename Work> bool caught(Work work) {
    try {
        error.clear();
        work();
        return true;
    } catch (const std::exception& thrown) {
        error = thrown.what();
    } catch (...) {
        error = "something was thrown that is no exception";
    }
    return false;
}

void good(eIcicleError answer, const char* call) {
    if (answer != eIcicleError::SUCCESS)
        throw std::runtime_error(std::string(call) + " answered " + std::to_string((int)answer));
}

// What lies on the device.
class memory_t {
    void* at = nullptr;

  public:
    explicit memory_t(size_t bytes) { good(icicle_malloc(&at, bytes), "icicle_malloc"); }
    memory_t(const memory_t&) = delete;
    ~memory_t() {
        if (at) icicle_free(at);
    }
    template <typename T> T* as() const { return static_cast<T*>(at); }
};

struct g1_t {
    using affine_t = bn254::affine_t;
    using projective_t = bn254::projective_t;
    static constexpr auto msm = bn254_msm;
    static constexpr auto to_affine = bn254_to_affine;
    static constexpr auto convert = bn254_affine_convert_montgomery;
};

struct g2_t {
    using affine_t = bn254::g2_affine_t;
    using projective_t = bn254::g2_projective_t;
    static constexpr auto msm = bn254_g2_msm;
    static constexpr auto to_affine = bn254_g2_to_affine;
    static constexpr auto convert = bn254_g2_affine_convert_montgomery;
};

// log2 of what transforms have their roots for.
uint32_t domain = 0;

}  // namespace

struct caldera_peer_work {
    virtual ~caldera_peer_work() = default;
    virtual void run() = 0;
    virtual void read(void* out) = 0;
};

namespace {

template <typename group_t> class sum_t : public caldera_peer_work {
    using affine_t = typename group_t::affine_t;

    size_t count;
    memory_t points, scalars;
    MSMConfig config = default_msm_config();
    typename group_t::projective_t sum;

  public:
    sum_t(const void* points_, const void* scalars_, size_t count_)
        : count(count_), points(count_ * sizeof(affine_t)), scalars(count_ * sizeof(scalar_t)) {
        memory_t montgomery(count * sizeof(affine_t));
        good(icicle_copy_to_device(montgomery.as<void>(), points_, count * sizeof(affine_t)), "copying points");
        good(icicle_copy_to_device(scalars.as<void>(), scalars_, count * sizeof(scalar_t)), "copying scalars");
        VecOpsConfig there = default_vec_ops_config();
        there.is_a_on_device = there.is_result_on_device = true;
        good(group_t::convert(montgomery.as<affine_t>(), count, false, &there, points.as<affine_t>()),
             "converting points");
        config.are_scalars_on_device = config.are_points_on_device = true;
        config.are_scalars_montgomery_form = config.are_points_montgomery_form = false;
    }

    void run() override {
        good(group_t::msm(scalars.as<scalar_t>(), points.as<affine_t>(), (int)count, &config, &sum), "its sum");
    }

    void read(void* out) override {
        affine_t canonical;
        group_t::to_affine(&sum, &canonical);
        VecOpsConfig here = default_vec_ops_config();
        affine_t point;
        good(group_t::convert(&canonical, 1, true, &here, &point), "converting a point");
        memcpy(out, (const void*)&point, sizeof(point));
    }
};

class transform_t : public caldera_peer_work {
    size_t count;
    memory_t vector;
    NTTConfig<scalar_t> config = default_ntt_config<scalar_t>();

  public:
    transform_t(const void* elements, uint32_t log2)
        : count((size_t)1 << log2), vector(((size_t)1 << log2) * sizeof(scalar_t)) {
        if (log2 > domain) {
            if (domain) good(bn254_ntt_release_domain(), "bn254_ntt_release_domain");
            domain = 0;
            scalar_t root;
            good(bn254_get_root_of_unity(count, &root), "bn254_get_root_of_unity");
            NTTInitDomainConfig how = default_ntt_init_domain_config();
            good(bn254_ntt_init_domain(&root, &how), "bn254_ntt_init_domain");
            domain = log2;
        }
        good(icicle_copy_to_device(vector.as<void>(), elements, count * sizeof(scalar_t)), "copying a vector");
        config.are_inputs_on_device = config.are_outputs_on_device = true;
    }

    void run() override {
        auto* at = vector.as<scalar_t>();
        good(bn254_ntt(at, (int)count, NTTDir::kForward, &config, at), "its transform");
    }

    void read(void* out) override {
        good(icicle_copy_to_host(out, vector.as<void>(), count * sizeof(scalar_t)), "copying a vector");
    }
};

}  // namespace

uint32_t caldera_peer_abi(void) { return CALDERA_PEER_ABI; }

caldera_peer* caldera_peer_open(const char*, uint32_t device, const char*) {
    static char opened;
    bool is_there = caught([&] {
        // Its backends lie beside this library.
        Dl_info here;
        if (!dladdr((const void*)&caldera_peer_open, &here))
            throw std::runtime_error("this library does not find itself");
        std::string folder = here.dli_fname;
        folder = folder.substr(0, folder.find_last_of('/') + 1) + "backend";
        good(icicle_load_backend(folder.c_str(), true), "icicle_load_backend");
        icicle::Device cuda("CUDA", (int)device);
        // To ask for one that is not there ends the process.
        if (icicle_is_device_available(cuda) != eIcicleError::SUCCESS) {
            void* driver = dlopen("libcuda.so.1", RTLD_LAZY);
            if (!driver)
                throw std::runtime_error("no CUDA driver");
            dlclose(driver);
            throw std::runtime_error("its backend in " + folder + " has no device CUDA:" + std::to_string((int)device));
        }
        good(icicle_set_device(cuda), "icicle_set_device");
    });
    return is_there ? (caldera_peer*)&opened : nullptr;
}

const char* caldera_peer_build(caldera_peer*) { return BUILD; }

const char* caldera_peer_error(void) { return error.c_str(); }

caldera_peer_work* caldera_peer_sum(caldera_peer*, uint32_t group, const void* points, const void* scalars,
                                    size_t count) {
    caldera_peer_work* work = nullptr;
    caught([&] {
        if (group == 1)
            work = new sum_t<g1_t>(points, scalars, count);
        else
            work = new sum_t<g2_t>(points, scalars, count);
    });
    return work;
}

caldera_peer_work* caldera_peer_transform(caldera_peer*, const void* elements, uint32_t log2) {
    caldera_peer_work* work = nullptr;
    caught([&] { work = new transform_t(elements, log2); });
    return work;
}

caldera_peer_work* caldera_peer_proof(caldera_peer*, const void*, size_t, const void*, size_t) {
    error.clear();
    return nullptr;
}

int caldera_peer_run(caldera_peer_work* work) {
    return caught([&] { work->run(); }) ? 0 : 1;
}

int caldera_peer_read(caldera_peer_work* work, void* out) {
    return caught([&] { work->read(out); }) ? 0 : 1;
}

void caldera_peer_free(caldera_peer_work* work) {
    caught([&] { delete work; });
}
