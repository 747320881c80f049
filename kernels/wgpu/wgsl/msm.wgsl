// Sums of multiples by buckets; the steps and their order are told in src/msm.rs.

// # digits
// Signed digits of each scalar, bucket or zero with the sign in the top bit, and how many points
// each bucket will get.
struct Job {
  first: u32, count: u32, at: u32, bits: u32, windows: u32, buckets: u32, montgomery: u32,
}
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = thread(group.x, local);
  if (i >= job.count) { return; }
  var scalar = load_scalars(job.at + i);
  if (job.montgomery != 0u) { scalar = mul(scalar, PLAIN_ONE); }
  // Six times the smaller modulus is beyond 2^256.
  for (var k = 0u; k < 6u; k = k + 1u) { scalar = reduce(scalar); }
  var words: array<u32, 9>;
  for (var k = 0u; k < 8u; k = k + 1u) { words[k] = scalar[k]; }
  let mask = (1u << job.bits) - 1u;
  var carry = 0u;
  for (var w = 0u; w < job.windows; w = w + 1u) {
    let bit = w * job.bits;
    let word = min(bit >> 5u, 8u);
    let within = bit & 31u;
    var digit = words[word] >> within;
    if (within + job.bits > 32u) { digit = digit | (words[min(word + 1u, 8u)] << (32u - within)); }
    digit = (digit & mask) + carry;
    carry = 0u;
    var sign = 0u;
    if (digit > job.buckets) {
      digit = mask + 1u - digit;
      sign = 0x80000000u;
      carry = 1u;
    }
    digits[w * job.count + i] = digit | sign;
    if (digit != 0u) { atomicAdd(&counts[w * job.buckets + digit - 1u], 1u); }
  }
}

// # scan
// What the three steps of the scan share: each thread has 16 buckets, a workgroup 1024. Scanned
// are points and segments of at most job.length points.
struct Job { first: u32, count: u32, length: u32, blocks: u32 }
const EACH = 16u;
var<workgroup> sums_of_threads: array<vec2<u32>, 64>;
fn sizes(i: u32) -> vec2<u32> {
  if (i >= job.count) { return vec2<u32>(); }
  let points = counts[i];
  return vec2<u32>(points, (points + job.length - 1u) / job.length);
}
fn own(at: u32) -> vec2<u32> {
  var sum: vec2<u32>;
  for (var k = 0u; k < EACH; k = k + 1u) { sum = sum + sizes(at + k); }
  return sum;
}

// # scan_blocks
// Sums of blocks, and for the host, behind all of them, the points of each block's largest bucket.
var<workgroup> most_of_threads: array<u32, 64>;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let at = thread(group.x, local) * EACH;
  sums_of_threads[local] = own(at);
  var most = 0u;
  for (var k = 0u; k < EACH; k = k + 1u) { most = max(most, sizes(at + k).x); }
  most_of_threads[local] = most;
  workgroupBarrier();
  if (local == 0u) {
    var sum: vec2<u32>;
    for (var k = 0u; k < GROUP; k = k + 1u) {
      sum = sum + sums_of_threads[k];
      most = max(most, most_of_threads[k]);
    }
    let block = job.first + group.x;
    blocks[block] = sum;
    blocks[job.blocks + 1u + block] = vec2<u32>(most, 0u);
  }
}

// # scan_starts
// Sums of blocks become where blocks start, and after the last of them where it ends.
struct Job { first: u32, count: u32, length: u32, blocks: u32 }
@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) local: u32) {
  if (local != 0u) { return; }
  var sum: vec2<u32>;
  for (var k = 0u; k < job.blocks; k = k + 1u) {
    let block = blocks[k];
    blocks[k] = sum;
    sum = sum + block;
  }
  blocks[job.blocks] = sum;
}

// # scan_places
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let at = thread(group.x, local) * EACH;
  sums_of_threads[local] = own(at);
  workgroupBarrier();
  var sum = blocks[job.first + group.x];
  for (var k = 0u; k < local; k = k + 1u) { sum = sum + sums_of_threads[k]; }
  for (var k = 0u; k < EACH; k = k + 1u) {
    if (at + k <= job.count) { places[at + k] = sum; }
    sum = sum + sizes(at + k);
  }
}

// # scatter
// Counting sort: each point goes to a place of its bucket, in any order. The counts end as zeros.
struct Job { first: u32, count: u32, windows: u32, buckets: u32 }
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = thread(group.x, local);
  if (i >= job.count) { return; }
  for (var w = 0u; w < job.windows; w = w + 1u) {
    let digit = digits[w * job.count + i];
    let bucket = digit & 0x7fffffffu;
    if (bucket == 0u) { continue; }
    let k = w * job.buckets + bucket - 1u;
    let place = places[k].x + atomicSub(&counts[k], 1u) - 1u;
    sorted[place] = i | (digit & 0x80000000u);
  }
}

// # search
// The bucket that a segment belongs to: the last that starts at or before it. Empty ones, which
// start there too, stand before it.
fn bucket_of(segment: u32, buckets: u32) -> u32 {
  var low = 0u;
  var high = buckets;
  while (high - low > 1u) {
    let middle = (low + high) / 2u;
    if (places[middle].y <= segment) { low = middle; } else { high = middle; }
  }
  return low;
}

// # accumulate
// Sums the points of one segment.
struct Job { first: u32, count: u32, length: u32 }
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let segment = thread(group.x, local);
  if (segment >= places[job.count].y) { return; }
  let bucket = bucket_of(segment, job.count);
  let from_at = places[bucket].x + (segment - places[bucket].y) * job.length;
  let end = min(from_at + job.length, places[bucket + 1u].x);
  r[B + 2u * DEGREE] = ONE;
  r[B + 3u * DEGREE] = ONE;
  for (var i = from_at; i < end; i = i + 1u) {
    let entry = sorted[i];
    let at = (entry & 0x7fffffffu) * 2u * DEGREE;
    var finite = false;
    for (var k = 0u; k < 2u * DEGREE; k = k + 1u) {
      var part = load_bases(at + k);
      finite = finite || !is_zero(part);
      if (k >= DEGREE && entry >= 0x80000000u) { part = sub(F(), part); }
      r[B + k] = part;
    }
    if (finite) { compute(ADD_AFFINE_POINT); }
  }
  for (var k = 0u; k < POINT; k = k + 1u) { store_parts(segment * POINT + k, r[A + k]); }
}

// # combine
// One round of a tree over the segments of each bucket: of every eight that are job.stride apart,
// the first takes up the others.
struct Job { first: u32, count: u32, stride: u32 }
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let segment = thread(group.x, local);
  if (segment >= places[job.count].y) { return; }
  let bucket = bucket_of(segment, job.count);
  let number = segment - places[bucket].y;
  let end = places[bucket + 1u].y;
  if (number % (8u * job.stride) != 0u || segment + job.stride >= end) { return; }
  for (var k = 0u; k < POINT; k = k + 1u) { r[A + k] = load_parts(segment * POINT + k); }
  for (var i = 1u; i < 8u; i = i + 1u) {
    let other = segment + i * job.stride;
    if (other >= end) { break; }
    for (var k = 0u; k < POINT; k = k + 1u) { r[B + k] = load_parts(other * POINT + k); }
    compute(ADD_POINT);
  }
  for (var k = 0u; k < POINT; k = k + 1u) { store_parts(segment * POINT + k, r[A + k]); }
}

// # collect
// Adds the first segment of each bucket, which has taken up the others, to the bucket.
struct Job { first: u32, count: u32, add: u32 }
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let bucket = thread(group.x, local);
  if (bucket >= job.count) { return; }
  let segment = places[bucket].y;
  let any = places[bucket + 1u].y > segment;
  for (var k = 0u; k < POINT; k = k + 1u) {
    if (job.add != 0u) { r[A + k] = load_buckets(bucket * POINT + k); }
    if (any) { r[B + k] = load_parts(segment * POINT + k); }
  }
  if (any) { compute(ADD_POINT); }
  for (var k = 0u; k < POINT; k = k + 1u) { store_buckets(bucket * POINT + k, r[A + k]); }
}

// # reduce
// One level of the weighted sum of each window's buckets. Of the values a_j and d_j of a window,
// what is wanted is the sum of j 2^doublings a_j + d_j (of (j + 1) a_j on the first level, where
// there are no d). A thread takes 2^chunk of them: with j = 2^chunk c + i, its new a_c is the sum
// of a_j, and its new d_c that of i 2^doublings a_j + d_j.
struct Job {
  first: u32, count: u32, chunk: u32, size: u32, doublings: u32, level: u32,
  sums_from: u32, weighted_from: u32, sums_to: u32, weighted_to: u32,
}
const RUN = 0u;
const WEIGHTED = POINT;
var<private> kept: array<F, 8u * DEGREE>;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = thread(group.x, local);
  if (i >= job.count) { return; }
  let chunks = max(job.size >> job.chunk, 1u);
  let length = min(1u << job.chunk, job.size);
  let at = (i / chunks) * job.size + (i % chunks) * length;
  let first_level = job.level == 0u;
  let doublings_from = 2u * length;
  let weighted_from = doublings_from + job.doublings;
  let end = select(weighted_from + length, weighted_from, first_level);
  for (var step = 0u; step < end; step = step + 1u) {
    var onto = WEIGHTED;
    var what = ADD_POINT;
    var number = length - 1u - step / 2u;
    if (step < doublings_from) {
      if (step % 2u == 0u) {
        onto = RUN;
        for (var k = 0u; k < POINT; k = k + 1u) {
          var part: F;
          if (first_level) {
            part = load_buckets((at + number) * POINT + k);
          } else {
            part = load_levels((job.sums_from + at + number) * POINT + k);
          }
          r[B + k] = part;
        }
      } else {
        if (number == 0u && !first_level) { continue; }
        for (var k = 0u; k < POINT; k = k + 1u) { r[B + k] = kept[RUN + k]; }
      }
    } else if (step < weighted_from) {
      what = DOUBLE_POINT;
    } else {
      number = step - weighted_from;
      for (var k = 0u; k < POINT; k = k + 1u) {
        r[B + k] = load_levels((job.weighted_from + at + number) * POINT + k);
      }
    }
    for (var k = 0u; k < POINT; k = k + 1u) { r[A + k] = kept[onto + k]; }
    compute(what);
    for (var k = 0u; k < POINT; k = k + 1u) { kept[onto + k] = r[A + k]; }
  }
  for (var k = 0u; k < POINT; k = k + 1u) {
    store_levels((job.sums_to + i) * POINT + k, kept[RUN + k]);
    store_levels((job.weighted_to + i) * POINT + k, kept[WEIGHTED + k]);
  }
}
