// Transforms in place. From natural to bit-reversed order goes decimation in frequency (x + y,
// (x - y) w), back goes decimation in time (x + y w, x - y w); see src/ntt.rs for how transforms
// are put together from them.
//
// The table of a domain of n elements holds v^i for i below n, v being the root of order 2n. So
// w = v^2, all smaller domains have their roots there too, and w^-i = -v^(n - 2i).

// # powers
// Doubles a table: the next job.count entries are those before times v^job.count.
struct Job { first: u32, count: u32, constant: u32 }
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = thread(group.x, local);
  if (i >= job.count) { return; }
  store_table(job.count + i, mul(load_table(i), load_constants(job.constant)));
}

// # extend
// The same where what is doubled is in two bindings.
struct Job { first: u32, count: u32, constant: u32 }
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = thread(group.x, local);
  if (i >= job.count) { return; }
  store_y(i, mul(load_x(i), load_constants(job.constant)));
}

// # pass
// Several layers of butterflies in one go. A workgroup takes a tile of 2^layers elements that are
// 2^low apart, and 2^columns such side by side, into its own memory. There they lie word by word: elements in
// one piece would have all threads meet in few of the memory's banks.
struct Job {
  first: u32, layers: u32, low: u32, columns: u32,
  frequency: u32, inverse: u32, table_log2: u32,
}
const TILE = 256u;
var<workgroup> tile: array<u32, 8u * TILE>;
fn tile_at(e: u32) -> F {
  return F(
    tile[e], tile[e + TILE], tile[e + 2u * TILE], tile[e + 3u * TILE],
    tile[e + 4u * TILE], tile[e + 5u * TILE], tile[e + 6u * TILE], tile[e + 7u * TILE],
  );
}
fn keep(e: u32, a: F) {
  tile[e] = a[0];
  tile[e + TILE] = a[1];
  tile[e + 2u * TILE] = a[2];
  tile[e + 3u * TILE] = a[3];
  tile[e + 4u * TILE] = a[4];
  tile[e + 5u * TILE] = a[5];
  tile[e + 6u * TILE] = a[6];
  tile[e + 7u * TILE] = a[7];
}
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let wide = job.low - job.columns;
  let g = job.first + group.x;
  let beside = (g & ((1u << wide) - 1u)) << job.columns;
  let base = ((g >> wide) << (job.low + job.layers)) | beside;
  let columns = (1u << job.columns) - 1u;
  let size = 1u << (job.layers + job.columns);
  for (var e = local; e < size; e = e + GROUP) {
    keep(e, load_x(base | ((e >> job.columns) << job.low) | (e & columns)));
  }
  for (var k = 0u; k < job.layers; k = k + 1u) {
    workgroupBarrier();
    let layer = select(k, job.layers - 1u - k, job.frequency != 0u);
    let apart = 1u << layer;
    for (var b = local; b < size / 2u; b = b + GROUP) {
      let row = b >> job.columns;
      let low = row & (apart - 1u);
      let at = (((((row >> layer) << 1u) << layer) | low) << job.columns) | (b & columns);
      let other = at + (apart << job.columns);
      let j = (low << job.low) | beside | (b & columns);
      let power = j << (job.table_log2 - layer - job.low);
      let negative = job.inverse != 0u && power != 0u;
      let w = load_table(select(power, (1u << job.table_log2) - power, negative));
      let x = tile_at(at);
      let y = tile_at(other);
      if (job.frequency != 0u) {
        keep(at, add(x, y));
      }
      var factor = y;
      if (job.frequency != 0u) {
        var left = x;
        var right = y;
        if (negative) { left = y; right = x; }
        factor = sub(left, right);
      }
      let product = mul(factor, w);
      if (job.frequency != 0u) {
        keep(other, product);
      } else {
        keep(at, add(x, product));
        keep(other, sub(x, product));
      }
    }
  }
  workgroupBarrier();
  for (var e = local; e < size; e = e + GROUP) {
    store_x(base | ((e >> job.columns) << job.low) | (e & columns), tile_at(e));
  }
}

// # split
// One layer of butterflies whose halves are in two bindings, for vectors that are too large for
// one. job.table is where the first power is in what is bound of the table; powers go up by
// 2^stride, or down for the inverse. job.one says that the first power is one itself.
struct Job {
  first: u32, count: u32, stride: u32, table: u32,
  frequency: u32, inverse: u32, one: u32,
}
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = thread(group.x, local);
  if (i >= job.count) { return; }
  let x = load_x(i);
  let y = load_y(i);
  let is_one = i == 0u && job.one != 0u;
  let negative = job.inverse != 0u && !is_one;
  let step = i << job.stride;
  var w: F = ONE;
  if (!is_one) { w = load_table(select(job.table + step, job.table - step, job.inverse != 0u)); }
  var factor = y;
  if (job.frequency != 0u) {
    var left = x;
    var right = y;
    if (negative) { left = y; right = x; }
    factor = sub(left, right);
  }
  let product = mul(factor, w);
  if (job.frequency != 0u) {
    store_x(i, add(x, y));
    store_y(i, product);
  } else {
    store_x(i, add(x, product));
    store_y(i, sub(x, product));
  }
}

// # scale
// Divides by n, and for a shift multiplies by v^i, where element i stands at its bits reversed.
struct Job {
  first: u32, count: u32, at: u32, log2: u32,
  table_from: u32, table_count: u32, shift: u32, constant: u32,
}
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = thread(group.x, local);
  if (i >= job.count) { return; }
  let power = (reverseBits(job.at + i) >> (32u - job.log2)) - job.table_from;
  if (power >= job.table_count) { return; }
  var product = load_x(i);
  for (var k = 0u; k < 2u; k = k + 1u) {
    if (k == 0u && job.shift == 0u) { continue; }
    var factor: F;
    if (k == 0u) { factor = load_table(power); } else { factor = load_constants(job.constant); }
    product = mul(product, factor);
  }
  store_x(i, product);
}

// # reverse
// Swaps elements whose indices are each other's bits reversed: those of x with those of y.
struct Job { first: u32, count: u32, log2: u32, x_at: u32, y_at: u32 }
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = thread(group.x, local);
  if (i >= job.count) { return; }
  let here = job.x_at + i;
  let to = reverseBits(here) >> (32u - job.log2);
  let other = to - job.y_at;
  if (to <= here || other >= job.count) { return; }
  let x = load_x(i);
  if (job.x_at == job.y_at) {
    store_x(i, load_x(other));
    store_x(other, x);
  } else {
    store_x(i, load_y(other));
    store_y(other, x);
  }
}
