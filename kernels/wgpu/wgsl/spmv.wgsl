// A w for a sparse matrix A by rows. Rows are cut into runs of bounded length, so that no thread
// works for long; see src/spmv.rs.

// # product
// A run is its first entry, its end, and the row to which its sum is added, or the place among the
// partial sums where it is left, marked by the top bit. Entries hold the coefficient times R^2, so
// that the product with the plain integer w is in Montgomery form.
struct Job { first: u32, count: u32 }
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = thread(group.x, local);
  if (i >= job.count) { return; }
  let end = runs[3u * i + 1u];
  let target_place = runs[3u * i + 2u];
  var sum: F;
  for (var e = runs[3u * i]; e < end; e = e + 1u) {
    sum = add(sum, mul(load_witness(columns[e]), load_values(e)));
  }
  if (target_place >= 0x80000000u) {
    store_parts(target_place & 0x7fffffffu, sum);
  } else {
    store_rows(target_place, add(load_rows(target_place), sum));
  }
}

// # sum
// Adds partial sums to their rows: from, end, row.
struct Job { first: u32, count: u32 }
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = thread(group.x, local);
  if (i >= job.count) { return; }
  let end = runs[3u * i + 1u];
  let row = runs[3u * i + 2u];
  var sum = load_rows(row);
  for (var e = runs[3u * i]; e < end; e = e + 1u) {
    sum = add(sum, load_parts(e));
  }
  store_rows(row, sum);
}
