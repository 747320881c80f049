// sppark (Supranational, Apache-2.0) as a peer: its Pippenger's sum and its transform, by those of its functions
// that take what lies on the device already. See peer.h.
//
// What is its own affair is left to it: the width of windows, the streams, what it allocates for a sum (from CUDA's
// pool, in the time), and the end of a sum, which it does on the host with all processors.

#include "peer.h"

#include <memory>

#include <ff/alt_bn128-fp2.hpp>

#include <ec/jacobian_t.hpp>
#include <ec/xyzz_t.hpp>

// Of its templates those are compiled that are used below.
#define SPPARK_DONT_INSTANTIATE_TEMPLATES
#include <msm/pippenger.cuh>
#include <ntt/ntt.cuh>

namespace {

std::string error;

// Its own, or a word of ours: none may leave this library.
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

const gpu_t* gpu = nullptr;

}  // namespace

struct caldera_peer_work {
    virtual ~caldera_peer_work() = default;
    virtual void run() = 0;
    virtual void read(void* out) = 0;
};

namespace {

template <typename field_t> class sum_t : public caldera_peer_work {
    using point_t = jacobian_t<field_t>;
    using bucket_t = xyzz_t<field_t>;
    using affine_t = typename bucket_t::affine_t;
    using kept_t = typename affine_t::mem_t;

    size_t count;
    dev_ptr_t<kept_t> points;
    dev_ptr_t<fr_t> scalars;
    msm_t<bucket_t, point_t, affine_t, fr_t> msm;
    point_t sum;

  public:
    sum_t(const void* points_, const void* scalars_, size_t count_)
        : count(count_), points(count_), scalars(count_), msm(nullptr, count_, sizeof(affine_t), gpu->id()) {
        gpu->HtoD(&points[0], points_, count);
        gpu->HtoD(&scalars[0], scalars_, count);
        gpu->sync();
    }

    void run() override {
        // The scalars are canonical: its kernel takes them as they are.
        RustError failed = msm.invoke(sum, points, count, scalars, false);
        if (failed.code) {
            std::unique_ptr<char, void (*)(void*)> message(failed.message, free);
            throw std::runtime_error(message ? message.get() : "its sum failed");
        }
    }

    void read(void* out) override {
        affine_t point;
        if (sum.is_inf())
            memset((void*)&point, 0, sizeof(point));
        else
            point = (affine_t)sum;
        memcpy(out, (const void*)&point, sizeof(point));
    }
};

class transform_t : public caldera_peer_work {
    uint32_t log2;
    dev_ptr_t<fr_t> vector;

  public:
    transform_t(const void* elements, uint32_t log2_) : log2(log2_), vector((size_t)1 << log2_) {
        gpu->HtoD(&vector[0], elements, (size_t)1 << log2);
        gpu->sync();
    }

    void run() override {
        stream_t& stream = *gpu;
        NTT::Base_dev_ptr(stream, &vector[0], log2, NTT::InputOutputOrder::NN, NTT::Direction::forward,
                          NTT::Type::standard);
        stream.sync();
    }

    void read(void* out) override {
        gpu->DtoH((fr_t*)out, &vector[0], (size_t)1 << log2);
        gpu->sync();
    }
};

}  // namespace

uint32_t caldera_peer_abi(void) { return CALDERA_PEER_ABI; }

caldera_peer* caldera_peer_open(const char*, uint32_t device, const char*) {
    bool is_there = caught([&] {
        int version = 0, count = 0;
        // What the runtime itself says then is that the driver is too old.
        if (cudaDriverGetVersion(&version) != cudaSuccess || version == 0)
            throw std::runtime_error("no CUDA driver");
        CUDA_OK(cudaGetDeviceCount(&count));
        for (const gpu_t* known : all_gpus())
            if (known->cid() == (int)device)
                gpu = known;
        if (!gpu)
            throw std::runtime_error("no device of those that sppark can use, of CUDA's " + std::to_string(count) +
                                     ", is number " + std::to_string((int)device));
        gpu->select();
    });
    // There is one, whose functions know it.
    static char opened;
    return is_there ? (caldera_peer*)&opened : nullptr;
}

const char* caldera_peer_build(caldera_peer*) { return BUILD; }

const char* caldera_peer_error(void) { return error.c_str(); }

caldera_peer_work* caldera_peer_sum(caldera_peer*, uint32_t group, const void* points, const void* scalars,
                                    size_t count) {
    caldera_peer_work* work = nullptr;
    caught([&] {
        gpu->select();
        if (group == 1)
            work = new sum_t<fp_t>(points, scalars, count);
        else
            work = new sum_t<fp2_t>(points, scalars, count);
    });
    return work;
}

caldera_peer_work* caldera_peer_transform(caldera_peer*, const void* elements, uint32_t log2) {
    caldera_peer_work* work = nullptr;
    caught([&] {
        gpu->select();
        work = new transform_t(elements, log2);
    });
    return work;
}

caldera_peer_work* caldera_peer_proof(caldera_peer*, const void*, size_t, const void*, size_t) {
    error.clear();
    return nullptr;
}

int caldera_peer_run(caldera_peer_work* work) {
    return caught([&] {
        gpu->select();
        work->run();
    }) ? 0 : 1;
}

int caldera_peer_read(caldera_peer_work* work, void* out) {
    return caught([&] {
        gpu->select();
        work->read(out);
    }) ? 0 : 1;
}

void caldera_peer_free(caldera_peer_work* work) {
    caught([&] {
        gpu->select();
        delete work;
    });
}
