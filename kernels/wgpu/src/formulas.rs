//! Formulas of points as lists of instructions.
//!
//! An interpreter in `wgsl/curve.wgsl` runs them over registers, with a single multiplication in its
//! text. A compiler that inlines all calls, as lavapipe's does, takes a time that grows with the
//! square of the multiplications in a shader; written out, a shader that adds in G2 would have 64.
//!
//! A formula is written once over the coordinates' field, whose degree says whether that is the
//! base field (G1) or its quadratic extension (G2), and comes out in terms of the base field.

use std::fmt::Write;

use caldera_kernels::Group;

/// Definitions for the shader: the degree of coordinates, how many registers there are, and where
/// in the instructions each program stands.
pub(crate) fn constants(group: Group) -> String {
    programs(degree(group)).0
}

/// The instructions of all programs, which the shader reads from a buffer.
pub(crate) fn code(group: Group) -> Vec<u32> {
    programs(degree(group)).1
}

fn degree(group: Group) -> usize {
    match group {
        Group::G1 => 1,
        Group::G2 => 2,
    }
}

/// What the interpreter runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// The first part of an addition.
    Add,
    /// The same, of a point that has ZZ = ZZZ = 1.
    AddAffine,
    /// The second part of either.
    Finish,
    /// A doubling.
    Double,
}

/// One instruction of the interpreter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Op {
    Mul,
    Add,
    Sub,
}

/// A value in a program: an element of the coordinates' field, as the numbers of its components.
type Value = Vec<usize>;

/// A formula on its way to instructions: values are numbered as they are computed, and get their
/// registers at the end.
struct Formula {
    degree: usize,
    /// Numbers below this are the named registers themselves.
    named: usize,
    code: Vec<(Op, usize, usize)>,
    /// Values that must end in named registers.
    out: Vec<(usize, usize)>,
}

impl Formula {
    fn new(degree: usize) -> Self {
        Self {
            degree,
            named: NAMED * degree,
            code: Vec::new(),
            out: Vec::new(),
        }
    }

    /// What a named register holds at the start.
    fn input(&self, name: usize) -> Value {
        (0..self.degree).map(|i| name * self.degree + i).collect()
    }

    fn output(&mut self, name: usize, value: &Value) {
        for (i, &part) in value.iter().enumerate() {
            self.out.push((part, name * self.degree + i));
        }
    }

    fn step(&mut self, op: Op, a: usize, b: usize) -> usize {
        self.code.push((op, a, b));
        self.named + self.code.len() - 1
    }

    fn each(&mut self, op: Op, a: &Value, b: &Value) -> Value {
        let pairs: Vec<_> = a.iter().copied().zip(b.iter().copied()).collect();
        pairs
            .into_iter()
            .map(|(a, b)| self.step(op, a, b))
            .collect()
    }

    fn add(&mut self, a: &Value, b: &Value) -> Value {
        self.each(Op::Add, a, b)
    }

    fn sub(&mut self, a: &Value, b: &Value) -> Value {
        self.each(Op::Sub, a, b)
    }

    /// In the extension, u^2 = -1 for both curves: three products after Karatsuba.
    fn mul(&mut self, a: &Value, b: &Value) -> Value {
        let (&[a0, ref a1 @ ..], &[b0, ref b1 @ ..]) = (&a[..], &b[..]) else {
            unreachable!("a value has one or two components");
        };
        let (&[a1], &[b1]) = (a1, b1) else {
            return vec![self.step(Op::Mul, a0, b0)];
        };
        let v0 = self.step(Op::Mul, a0, b0);
        let v1 = self.step(Op::Mul, a1, b1);
        let a = self.step(Op::Add, a0, a1);
        let b = self.step(Op::Add, b0, b1);
        let cross = self.step(Op::Mul, a, b);
        let c0 = self.step(Op::Sub, v0, v1);
        let cross = self.step(Op::Sub, cross, v0);
        let c1 = self.step(Op::Sub, cross, v1);
        vec![c0, c1]
    }

    /// (a0 + a1)(a0 - a1) and 2 a0 a1.
    fn square(&mut self, a: &Value) -> Value {
        let &[a0, a1] = &a[..] else {
            return self.mul(a, a);
        };
        let sum = self.step(Op::Add, a0, a1);
        let difference = self.step(Op::Sub, a0, a1);
        let c0 = self.step(Op::Mul, sum, difference);
        let product = self.step(Op::Mul, a0, a1);
        let c1 = self.step(Op::Add, product, product);
        vec![c0, c1]
    }

    /// Instructions with registers: op, target, and two sources, a byte each. Values live in
    /// registers beyond the named ones from where they are computed to where they are last used;
    /// an output goes to its named register at once, which is asserted to be unused by then.
    /// Also says how many registers there are.
    fn assemble(&self) -> (Vec<u32>, usize) {
        let mut last = vec![0; self.named + self.code.len()];
        for (at, &(_, a, b)) in self.code.iter().enumerate() {
            last[a] = at;
            last[b] = at;
        }
        let mut place: Vec<usize> = (0..self.named).collect();
        let mut free: Vec<usize> = Vec::new();
        let mut count = self.named;
        let mut words = Vec::new();
        for (at, &(op, a, b)) in self.code.iter().enumerate() {
            let value = self.named + at;
            let (from_a, from_b) = (place[a], place[b]);
            let mut done = vec![a, b];
            done.dedup();
            for source in done {
                let is_out = self.out.iter().any(|&(part, _)| part == source);
                if source >= self.named && last[source] == at && !is_out {
                    free.push(place[source]);
                }
            }
            let target = match self.out.iter().find(|&&(part, _)| part == value) {
                Some(&(_, register)) => {
                    // Nothing may still want what it held at the start.
                    assert!(
                        last[register] <= at,
                        "a named register is overwritten early"
                    );
                    register
                }
                None => free.pop().unwrap_or_else(|| {
                    count += 1;
                    count - 1
                }),
            };
            place.push(target);
            let op = match op {
                Op::Mul => 0,
                Op::Add => 1,
                Op::Sub => 2,
            };
            words.push(op << 24 | (target as u32) << 16 | (from_a as u32) << 8 | from_b as u32);
        }
        (words, count)
    }
}

/// Named registers of the interpreter, in components of a coordinate: the point A, to which the
/// point B is added, both as (X, Y, ZZ, ZZZ) with x = X / ZZ, y = Y / ZZZ, ZZ^3 = ZZZ^2; and the
/// two differences between the halves of an addition.
const NAMED: usize = 10;
const A_X: usize = 0;
const A_Y: usize = 1;
const A_ZZ: usize = 2;
const A_ZZZ: usize = 3;
const B_X: usize = 4;
const B_Y: usize = 5;
const B_ZZ: usize = 6;
const B_ZZZ: usize = 7;
const P: usize = 8;
const R: usize = 9;

/// The formulas add-2008-s, madd-2008-s and dbl-2008-s-1 of the Explicit-Formulas Database for XYZZ
/// coordinates on curves with a = 0. An addition stands in two parts: after the first, P = 0 says
/// that the points have the same x, and R = 0 the same y.
fn formula(degree: usize, program: Program) -> Formula {
    let add = |mixed: bool| {
        let mut f = Formula::new(degree);
        let (x1, y1, zz1, zzz1) = (f.input(A_X), f.input(A_Y), f.input(A_ZZ), f.input(A_ZZZ));
        let (x2, y2, zz2, zzz2) = (f.input(B_X), f.input(B_Y), f.input(B_ZZ), f.input(B_ZZZ));
        let u2 = f.mul(&x2, &zz1);
        let s2 = f.mul(&y2, &zzz1);
        let (mut u1, mut s1) = (x1, y1);
        if !mixed {
            u1 = f.mul(&u1, &zz2);
            s1 = f.mul(&s1, &zzz2);
            f.output(A_X, &u1);
            f.output(A_Y, &s1);
            let zz = f.mul(&zz1, &zz2);
            f.output(A_ZZ, &zz);
            let zzz = f.mul(&zzz1, &zzz2);
            f.output(A_ZZZ, &zzz);
        }
        let p = f.sub(&u2, &u1);
        f.output(P, &p);
        let r = f.sub(&s2, &s1);
        f.output(R, &r);
        f
    };
    let finish = || {
        let mut f = Formula::new(degree);
        let (u1, s1, zz, zzz) = (f.input(A_X), f.input(A_Y), f.input(A_ZZ), f.input(A_ZZZ));
        let (p, r) = (f.input(P), f.input(R));
        let pp = f.square(&p);
        let zz = f.mul(&zz, &pp);
        f.output(A_ZZ, &zz);
        let ppp = f.mul(&p, &pp);
        let zzz = f.mul(&zzz, &ppp);
        f.output(A_ZZZ, &zzz);
        let q = f.mul(&u1, &pp);
        let s = f.mul(&s1, &ppp);
        let x = f.square(&r);
        let x = f.sub(&x, &ppp);
        let x = f.sub(&x, &q);
        let x = f.sub(&x, &q);
        f.output(A_X, &x);
        let y = f.sub(&q, &x);
        let y = f.mul(&r, &y);
        let y = f.sub(&y, &s);
        f.output(A_Y, &y);
        f
    };
    let double = || {
        let mut f = Formula::new(degree);
        let (x, y, zz, zzz) = (f.input(A_X), f.input(A_Y), f.input(A_ZZ), f.input(A_ZZZ));
        let u = f.add(&y, &y);
        let v = f.square(&u);
        let zz = f.mul(&v, &zz);
        f.output(A_ZZ, &zz);
        let w = f.mul(&u, &v);
        let zzz = f.mul(&w, &zzz);
        f.output(A_ZZZ, &zzz);
        let s = f.mul(&x, &v);
        let m = f.square(&x);
        let twice = f.add(&m, &m);
        let m = f.add(&twice, &m);
        let wy = f.mul(&w, &y);
        let x = f.square(&m);
        let x = f.sub(&x, &s);
        let x = f.sub(&x, &s);
        f.output(A_X, &x);
        let y = f.sub(&s, &x);
        let y = f.mul(&m, &y);
        let y = f.sub(&y, &wy);
        f.output(A_Y, &y);
        f
    };
    match program {
        Program::Add => add(false),
        Program::AddAffine => add(true),
        Program::Finish => finish(),
        Program::Double => double(),
    }
}

/// All programs: their names and bounds for the shader, and their instructions.
fn programs(degree: usize) -> (String, Vec<u32>) {
    let mut words = Vec::new();
    let mut registers = 0;
    let mut bounds = String::new();
    for (name, program) in [
        ("ADD", Program::Add),
        ("ADD_AFFINE", Program::AddAffine),
        ("FINISH", Program::Finish),
        ("DOUBLE", Program::Double),
    ] {
        let (program, count) = formula(degree, program).assemble();
        let from = words.len();
        words.extend(program);
        registers = registers.max(count);
        writeln!(
            bounds,
            "const {name} = vec2<u32>({from}u, {}u);",
            words.len()
        )
        .expect("writing to a string cannot fail");
    }
    let constants = format!("const DEGREE = {degree}u;\nconst REGISTERS = {registers}u;\n{bounds}");
    (constants, words)
}

/// Turns of loops that a program takes: one for each instruction, and one for each limb of a
/// multiplication.
#[cfg(test)]
pub(crate) fn turns(group: Group, limbs: usize, program: Program) -> usize {
    let code = formula(degree(group), program).code;
    let multiplications = code.iter().filter(|(op, ..)| *op == Op::Mul).count();
    code.len() + multiplications * limbs
}
