// Work on vectors element by element, in Montgomery form. Bindings may be the same vector: each
// thread reads all that it needs before it writes, and at one index only.

// # multiply
// z = x y, or x = x y - z.
struct Job { first: u32, count: u32, subtract: u32 }
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = thread(group.x, local);
  if (i >= job.count) { return; }
  let product = mul(load_x(i), load_y(i));
  if (job.subtract != 0u) {
    store_x(i, sub(product, load_z(i)));
  } else {
    store_z(i, product);
  }
}

// # chain
// A chain of multiplications of each element by itself: what is timed to choose a variant.
struct Job { first: u32, count: u32, length: u32 }
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = thread(group.x, local);
  if (i >= job.count) { return; }
  let factor = load_x(i);
  var product = factor;
  for (var k = 0u; k < job.length; k = k + 1u) {
    product = mul(product, factor);
  }
  store_z(i, product);
}
