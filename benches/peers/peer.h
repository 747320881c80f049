/*
 * What a peer on a GPU is to `caldera-bench gpu`: a shared library with these functions, opened when it is named by
 * `--peer NAME=LIBRARY`. Each is a few lines of ours around somebody else's code, compiled with that code at hand by
 * `make peers`: nothing of theirs is part of this project.
 *
 * In this way a peer computes on the same inputs as our device, in the same process and so in the same CUDA context,
 * in turns with it, with its points, vectors and keys on the device before the clock starts.
 *
 * All is of BN254, as it lies in our device's memory: coordinates in Montgomery form with R = 2^256, little-endian,
 * x then y (of G2 c0 then c1 of each), infinity all zero; scalars canonical, 32 bytes, below r. One thread calls.
 */
#ifndef CALDERA_PEER_H
#define CALDERA_PEER_H

#include <stddef.h>
#include <stdint.h>

/* Whatever else is in the library stays in it. */
#pragma GCC visibility push(default)

#ifdef __cplusplus
extern "C" {
#endif

#define CALDERA_PEER_ABI 1

/* A proof is no longer than that. */
#define CALDERA_PEER_PROOF_BYTES 4096

/* A peer that is ready for a card. */
struct caldera_peer;

/* Something to be done again and again, with all that it needs on the device. */
struct caldera_peer_work;

/* CALDERA_PEER_ABI, as this library was compiled with it. */
uint32_t caldera_peer_abi(void);

/* Chooses the card: by CUDA's number of it (UINT32_MAX: it has none), and by its address on the PCI bus (empty: not
 * known), where a peer that computes on another card is refused. `name` is the peer's on the command line, for a
 * library that is several. NULL, where it cannot be used. It is there until the process ends. */
struct caldera_peer *caldera_peer_open(const char *name, uint32_t device, const char *pci);

/* Name, version, compiler, architectures: what stands beside its figures. */
const char *caldera_peer_build(struct caldera_peer *peer);

/* Why the call before failed; empty where it did not, or where the peer just has no such work. */
const char *caldera_peer_error(void);

/* The sum of `count` multiples of points of G1 (group 1) or G2 (group 2). NULL: it failed, or there is none. */
struct caldera_peer_work *caldera_peer_sum(struct caldera_peer *peer, uint32_t group, const void *points,
                                           const void *scalars, size_t count);

/* The transform of 2^log2 elements, in place, natural order to natural order, by the root of unity that snarkjs
 * uses. */
struct caldera_peer_work *caldera_peer_transform(struct caldera_peer *peer, const void *elements, uint32_t log2);

/* Proofs with a key, of a witness: the bytes of a .zkey and of a .wtns. */
struct caldera_peer_work *caldera_peer_proof(struct caldera_peer *peer, const void *zkey, size_t zkey_bytes,
                                             const void *wtns, size_t wtns_bytes);

/* Does it, and returns when a sum is with the host, as whatever the peer calls a point; a transform's vector is
 * ready on the device; a proof is made, and has passed the peer's own check, if it has one. This is timed. 0, or it
 * failed. */
int caldera_peer_run(struct caldera_peer_work *work);

/* What came of it: a point; the vector; the JSON of a proof, as snarkjs writes it, ended by a zero. */
int caldera_peer_read(struct caldera_peer_work *work, void *out);

void caldera_peer_free(struct caldera_peer_work *work);

#ifdef __cplusplus
}
#endif

#pragma GCC visibility pop

#endif
