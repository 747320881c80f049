// What the arithmetic of a field is made of is written by src/generate.rs, which knows the field:
//
//   F                        an element, in Montgomery form unless said otherwise
//   ONE, PLAIN_ONE           one, and the plain integer one
//   add, sub, mul, reduce    all results are below the modulus
//   is_zero
//
// Elements lie in storage as vectors of four words; load_NAME and store_NAME of each binding are
// written beside its declaration. This file holds what stands on them alone.

const GROUP = 64u;

// The number of this thread in the whole of a job, of which a dispatch runs a slice.
fn thread(group: u32, local: u32) -> u32 {
  return (job.first + group) * GROUP + local;
}
