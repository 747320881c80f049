// Points in XYZZ coordinates, x = X / ZZ and y = Y / ZZZ with ZZ^3 = ZZZ^2; infinity has ZZ = 0.
//
// An interpreter runs the formulas (src/formulas.rs) over registers: A is the point that is added
// to, B the one that is added, P and R the differences by which special cases are seen. All of
// it has one multiplication in its text, whatever the formula and the group.

const A = 0u;
const B = 4u * DEGREE;
const P = 8u * DEGREE;
const R = 9u * DEGREE;
const POINT = 4u * DEGREE;

var<private> r: array<F, REGISTERS>;

fn vanishes(at: u32) -> bool {
  for (var i = at; i < at + DEGREE; i = i + 1u) {
    if (!is_zero(r[i])) { return false; }
  }
  return true;
}

fn copy_point(to: u32, from_at: u32) {
  for (var i = 0u; i < POINT; i = i + 1u) { r[to + i] = r[from_at + i]; }
}

// ZZ = ZZZ = 0.
fn set_infinity(at: u32) {
  for (var i = 2u * DEGREE; i < POINT; i = i + 1u) { r[at + i] = F(); }
}

const ADD_POINT = 0u;
const ADD_AFFINE_POINT = 1u;
const DOUBLE_POINT = 2u;

// A = A + B, the same where B has ZZ = ZZZ = 1, or A = 2 A.
fn compute(what: u32) {
  var next = DOUBLE;
  if (what != DOUBLE_POINT) {
    if (vanishes(B + 2u * DEGREE)) { return; }
    if (vanishes(A + 2u * DEGREE)) {
      copy_point(A, B);
      return;
    }
    next = ADD;
    if (what == ADD_AFFINE_POINT) { next = ADD_AFFINE; }
  }
  for (var part = 0u; part < 2u; part = part + 1u) {
    for (var i = next.x; i < next.y; i = i + 1u) {
      let code = program[i];
      let a = r[(code >> 8u) & 0xffu];
      let b = r[code & 0xffu];
      let op = code >> 24u;
      var result: F;
      if (op == 0u) {
        result = mul(a, b);
      } else if (op == 1u) {
        result = add(a, b);
      } else {
        result = sub(a, b);
      }
      r[(code >> 16u) & 0xffu] = result;
    }
    if (what == DOUBLE_POINT || part == 1u) { return; }
    next = FINISH;
    if (vanishes(P)) {
      if (!vanishes(R)) {
        set_infinity(A);
        return;
      }
      copy_point(A, B);
      next = DOUBLE;
    }
  }
}
