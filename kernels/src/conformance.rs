//! One suite that holds any [`Device`] against arkworks, at many sizes and at nasty values.
//!
//! A device that passes computes what the prover needs of it and keeps the contract of the trait:
//! sums with all that breaks incomplete formulas (infinity, doublings, opposite points in one
//! bucket, everything in one bucket), every transform at every size up to 2^14 and 2^16, products
//! of unsorted and repeated entries, refusal of what does not fit, lanes in any order and on
//! several threads, plans dropped half-way.
//!
//! The oracle is arkworks and shares no code with this crate's fields and curves; that includes
//! the roots of unity, which arkworks chooses differently from snarkjs on BLS12-381 and which are
//! made here from their definition. The bases of a sum are known multiples of the generator, so
//! that the expected sum is one inner product of scalars and one multiple; one sum a group is also
//! held against arkworks' own.

use std::any::type_name;
use std::sync::{Arc, Mutex};

use ark_ec::scalar_mul::ScalarMul;
use ark_ec::scalar_mul::variable_base::VariableBaseMSM;
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::{BigInteger, Field, PrimeField};
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};
use bytes::Bytes;

use crate::device::{
    CurveId, Device, DeviceError, Form, Group, Plan, Progress, Transform, VectorId, Work,
};

/// How much to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Small sizes only: some seconds on a CPU without optimisation of its own.
    Quick,
    /// Transforms of every size up to 2^14, sums of some sizes up to 2^12, all else as in `Quick`:
    /// minutes on a GPU that is emulated, whose kernels are slow and whose sums of a hundred points
    /// take about as long as those of a thousand do.
    Emulated,
    /// Every size up to 2^14 and one of 2^16.
    Full,
}

/// Where a device failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A wrong result.
    #[error("{case}: expected {expected}, got {got}")]
    Wrong {
        /// What was tried.
        case: String,
        /// What the oracle says.
        expected: String,
        /// What the device says.
        got: String,
    },
    /// An error where none is due.
    #[error("{case}: {error}")]
    Refused {
        /// What was tried.
        case: String,
        /// The device's error.
        error: DeviceError,
    },
}

/// Tries everything on one curve. The same seed tries the same values.
///
/// # Errors
/// The first failure.
pub fn run(device: &dyn Device, curve: CurveId, effort: Effort, seed: u64) -> Result<(), Failure> {
    match curve {
        CurveId::Bn254 => Suite::<ark_bn254::Fr>::new(device, curve, effort, seed)
            .all::<ark_bn254::G1Projective, ark_bn254::G2Projective>(),
        CurveId::Bls12_381 => Suite::<ark_bls12_381::Fr>::new(device, curve, effort, seed)
            .all::<ark_bls12_381::G1Projective, ark_bls12_381::G2Projective>(),
    }
}

/// How the lanes of a stage are run.
#[derive(Debug, Clone, Copy)]
enum Order {
    /// One after the other, each to its end.
    Sequential,
    /// A quantum of a lane drawn by lot, then of another.
    Shuffled,
    /// Lanes drawn by three threads, which hand them on after every quantum.
    Threads,
}

struct Suite<'a, S> {
    device: &'a dyn Device,
    curve: CurveId,
    effort: Effort,
    random: Random,
    field: std::marker::PhantomData<S>,
}

impl<'a, S: PrimeField> Suite<'a, S> {
    fn new(device: &'a dyn Device, curve: CurveId, effort: Effort, seed: u64) -> Self {
        Self {
            device,
            curve,
            effort,
            random: Random(seed),
            field: std::marker::PhantomData,
        }
    }

    fn all<G1, G2>(mut self) -> Result<(), Failure>
    where
        G1: CurveGroup<ScalarField = S> + VariableBaseMSM + ScalarMul<MulBase = G1::Affine>,
        G2: CurveGroup<ScalarField = S> + VariableBaseMSM + ScalarMul<MulBase = G2::Affine>,
    {
        self.vectors()?;
        self.elementwise()?;
        self.products()?;
        self.transforms()?;
        self.sums::<G1>(Group::G1)?;
        self.sums::<G2>(Group::G2)?;
        self.tables::<G1>(Group::G1)?;
        self.tables::<G2>(Group::G2)?;
        self.refusals()?;
        self.contract::<G1>()
    }

    // Vectors.

    fn vectors(&mut self) -> Result<(), Failure> {
        let case = "vector".to_owned();
        let id = self.check(&case, self.device.vector(self.curve, 10))?;
        let mut bytes = vec![1; 320];
        self.check(&case, self.device.vector_read(id, 0, &mut bytes))?;
        same(&case, &vec![0; 320], &bytes)?;
        let scalars: Vec<u8> = (0..128).collect();
        self.check(&case, self.device.vector_write(id, 3, &scalars))?;
        self.check(&case, self.device.vector_read(id, 2, &mut bytes[..160]))?;
        same(&case, &[0; 32][..], &bytes[..32])?;
        same(&case, &scalars[..], &bytes[32..160])?;
        let refused = self.device.vector_write(id, 7, &scalars);
        self.is_length("write beyond the end", refused)?;
        let refused = self.device.vector_write(id, 0, &scalars[1..]);
        self.is_length("write of a part of a scalar", refused)?;
        let refused = self.device.vector_read(id, usize::MAX, &mut bytes[..32]);
        self.is_length("read from beyond the end", refused)?;
        self.device.vector_free(id);
        self.device.vector_free(id);
        let refused = self.device.vector_read(id, 0, &mut bytes[..32]);
        self.is_unknown("read of a freed vector", refused)?;
        let empty = self.check(&case, self.device.vector(self.curve, 0))?;
        self.device.vector_free(empty);
        Ok(())
    }

    fn elementwise(&mut self) -> Result<(), Failure> {
        for len in [1, 2, 255, 256, 257, 1000, 5000] {
            let case = format!("element-wise products of {len}");
            let (x, y, z) = (self.values(len), self.values(len), self.values(len));
            let a = self.vector(&case, &x, Form::Montgomery)?;
            let b = self.vector(&case, &y, Form::Montgomery)?;
            let c = self.vector(&case, &z, Form::Montgomery)?;
            let out = self.vector(&case, &vec![S::zero(); len], Form::Montgomery)?;
            self.run(&case, &Work::Multiply { a, b, out }, Order::Shuffled)?;
            let expected: Vec<S> = x.iter().zip(&y).map(|(x, y)| *x * y).collect();
            self.holds(&case, out, &expected)?;
            self.run(&case, &Work::MultiplySubtract { a, b, c }, Order::Threads)?;
            let expected: Vec<S> = expected.iter().zip(&z).map(|(p, z)| *p - z).collect();
            self.holds(&case, a, &expected)?;
            for id in [a, b, c, out] {
                self.device.vector_free(id);
            }
        }
        Ok(())
    }

    // Sparse products.

    fn products(&mut self) -> Result<(), Failure> {
        // Rows, columns, entries, rows of the result, whether by rows.
        for (rows, columns, count, len, sorted) in [
            (1, 1, 0, 1, true),
            (3, 2, 7, 4, false),
            (100, 50, 400, 128, true),
            (100, 50, 400, 128, false),
            // Many entries in one row, which a quantum has to leave half-way.
            (1, 40, 3000, 2, true),
            (2000, 1000, 5000, 2048, false),
        ] {
            let case = format!("product of {rows}x{columns} with {count} entries");
            let mut entries: Vec<(u32, u32, u32, S)> = (0..count)
                .map(|_| {
                    (
                        self.random.below(2) as u32,
                        self.random.below(rows) as u32,
                        self.random.below(columns) as u32,
                        self.value(),
                    )
                })
                .collect();
            if sorted {
                entries.sort_by_key(|entry| entry.1);
            } else if let [first, .., last] = &mut entries[..] {
                // The same position twice, at both ends of the file.
                (last.0, last.1, last.2) = (first.0, first.1, first.2);
            }
            let w = self.values(columns);
            let mut expected = [vec![S::zero(); len], vec![S::zero(); len]];
            for (matrix, row, column, value) in &entries {
                expected[*matrix as usize][*row as usize] += *value * w[*column as usize];
            }
            let witness = self.vector(&case, &w, Form::Canonical)?;
            // Rows beyond the matrix must become zero.
            let a = self.vector(&case, &vec![S::one(); len], Form::Montgomery)?;
            let b = self.vector(&case, &vec![S::one(); len], Form::Montgomery)?;
            let matrix = self.device.matrix(
                self.curve,
                rows,
                columns,
                Bytes::from(entry_bytes(&entries)),
            );
            let matrix = self.check(&case, matrix)?;
            let work = Work::Product {
                matrix,
                witness,
                a,
                b,
            };
            for order in [Order::Sequential, Order::Shuffled, Order::Threads] {
                self.run(&case, &work, order)?;
                self.holds(&case, a, &expected[0])?;
                self.holds(&case, b, &expected[1])?;
            }
            self.device.matrix_free(matrix);
            self.is_unknown("product with a freed matrix", self.device.plan(&work))?;
            for id in [witness, a, b] {
                self.device.vector_free(id);
            }
        }
        self.bad_entries()
    }

    fn bad_entries(&mut self) -> Result<(), Failure> {
        let one = S::one();
        for (what, index, entry) in [
            ("matrix", 1, (2, 0, 0, one)),
            ("row", 2, (0, 5, 0, one)),
            ("row", 0, (1, u32::MAX, 0, one)),
            ("column", 1, (1, 4, 7, one)),
        ] {
            let mut entries = vec![(0, 1, 2, one), (1, 0, 6, one), (0, 4, 0, one)];
            entries[index] = entry;
            let bytes = Bytes::from(entry_bytes(&entries));
            match self.device.matrix(self.curve, 5, 7, bytes) {
                Err(DeviceError::Entry {
                    entry, what: named, ..
                }) if entry == index && named == what => {}
                other => return wrong("entry outside the matrix", &(index, what), &other),
            }
        }
        let cut = Bytes::from(vec![0; 43]);
        let refused = self.device.matrix(self.curve, 5, 7, cut);
        self.is_length("a part of an entry", refused)
    }

    // Transforms.

    fn transforms(&mut self) -> Result<(), Failure> {
        let sizes: Vec<u32> = match self.effort {
            Effort::Quick => (1..=11).collect(),
            Effort::Emulated => (1..=14).collect(),
            Effort::Full => (1..=14).chain([16]).collect(),
        };
        for log2 in sizes {
            let n = 1usize << log2;
            let domain = domain::<S>(log2);
            let v = root::<S>(log2 + 1);
            let values = self.values(n);
            let order = match log2 % 3 {
                0 => Order::Sequential,
                1 => Order::Shuffled,
                _ => Order::Threads,
            };
            for transform in [Transform::Forward, Transform::Inverse, Transform::Shift] {
                let case = format!("{transform:?} of 2^{log2}");
                let mut expected = values.clone();
                match transform {
                    Transform::Forward => domain.fft_in_place(&mut expected),
                    Transform::Inverse => domain.ifft_in_place(&mut expected),
                    Transform::Shift => {
                        domain.ifft_in_place(&mut expected);
                        let mut power = S::one();
                        for x in &mut expected {
                            *x *= power;
                            power *= v;
                        }
                        domain.fft_in_place(&mut expected);
                    }
                }
                if log2 <= 5 {
                    same(&case, &defined(&values, transform), &expected)?;
                }
                let vector = self.vector(&case, &values, Form::Montgomery)?;
                self.run(&case, &Work::Ntt { vector, transform }, order)?;
                self.holds(&case, vector, &expected)?;
                self.device.vector_free(vector);
            }
        }
        for len in [0, 1, 3, 100] {
            let vector = self.check("vector", self.device.vector(self.curve, len))?;
            let work = Work::Ntt {
                vector,
                transform: Transform::Shift,
            };
            match self.device.plan(&work).map(|_| ()) {
                Err(DeviceError::Domain { got, .. }) if got == len => {}
                other => return wrong("transform of an odd length", &"Domain", &other),
            }
            self.device.vector_free(vector);
        }
        Ok(())
    }

    // Sums.

    fn sums<G>(&mut self, group: Group) -> Result<(), Failure>
    where
        G: CurveGroup<ScalarField = S> + VariableBaseMSM + ScalarMul<MulBase = G::Affine>,
    {
        let sizes: &[usize] = match self.effort {
            Effort::Quick => &[0, 1, 2, 3, 31, 33, 257, 1100],
            Effort::Emulated => &[0, 1, 2, 3, 31, 33, 257, 1100, 4096],
            Effort::Full => &[
                0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129, 255, 256,
                257, 511, 513, 1023, 1024, 1025, 2047, 4097, 16384,
            ],
        };
        for &n in sizes {
            let points = Multiples::<G>::of(self.values(n));
            let scalars = self.values(n);
            self.sum::<G>(group, "random values", &points, &scalars)?;
        }
        let n = match self.effort {
            Effort::Quick | Effort::Emulated => 500,
            Effort::Full => 2500,
        };
        let random = Multiples::<G>::of(self.values(n));
        let other = self.values(n);
        let (zero, one) = (S::zero(), S::one());
        let half = -(one + one).inverse().unwrap_or(one);
        // (r - 1) / 3, a whole number: a cube root of one, by which an endomorphism multiplies.
        let third = -S::from(3u64).inverse().unwrap_or(one);
        let root = S::GENERATOR.pow(third.into_bigint());
        for (name, value) in [
            ("all scalars 0", zero),
            ("all scalars 1", one),
            ("all scalars r - 1", -one),
            ("all scalars 2", one + one),
            ("all scalars (r - 1) / 2", half),
            ("all scalars (r + 1) / 2", half + one),
            ("all scalars 2^64 - 1", S::from(u64::MAX)),
            ("all scalars 2^64", S::from(u64::MAX) + one),
            ("all scalars a cube root of one", root),
            ("all scalars one more", root + one),
            ("all scalars one less", root - one),
            ("all scalars the other cube root", root.square()),
            ("all scalars equal", other[0]),
        ] {
            self.sum::<G>(group, name, &random, &vec![value; n])?;
        }
        let small: Vec<S> = (0..n).map(|_| S::from(self.random.next() & 0xff)).collect();
        let negative: Vec<S> = small.iter().map(|x| -*x).collect();
        let mixed: Vec<S> = (0..n)
            .map(|i| match i % 7 {
                0 => other[i],
                1 | 2 => one,
                3 => small[i],
                4 => -one,
                _ => zero,
            })
            .collect();
        let powers: Vec<S> = (0..n)
            .map(|i| S::from(2u64).pow([i as u64 % 253]))
            .collect();
        let bounds: Vec<S> = powers.iter().map(|x| *x - one).collect();
        for (name, scalars) in [
            ("small scalars", &small),
            ("small negative scalars", &negative),
            ("a witness's mixture", &mixed),
            ("powers of two", &powers),
            ("powers of two less one", &bounds),
        ] {
            self.sum::<G>(group, name, &random, scalars)?;
            self.parts::<G>(group, name, &random, scalars)?;
        }
        self.parts::<G>(group, "random values", &random, &other)?;

        let n = n / 2;
        let alternating = |value: S| -> Vec<S> {
            (0..n)
                .map(|i| if i % 2 == 0 { value } else { -value })
                .collect()
        };
        for (name, logs) in [
            ("all points equal", vec![other[1]; n]),
            ("P and -P in turn", alternating(other[2])),
            (
                "P and what endomorphisms make of it",
                (0..n)
                    .map(|i| {
                        let point = other[1] * root.pow([i as u64 % 3]);
                        if i % 2 == 0 { point } else { -point }
                    })
                    .collect(),
            ),
            ("all points infinity", vec![zero; n]),
            (
                "infinity among points",
                (0..n)
                    .map(|i| if i % 3 == 0 { zero } else { random.logs[i] })
                    .collect(),
            ),
            ("successive multiples", (0..n as u64).map(S::from).collect()),
        ] {
            let points = Multiples::<G>::of(logs);
            for scalars in [
                &other[..n],
                &vec![other[3]; n],
                &vec![one; n],
                &small[..n],
                &mixed[..n],
                &alternating(other[5]),
            ] {
                self.sum::<G>(group, name, &points, scalars)?;
            }
        }

        // And against arkworks' own sum.
        let case = format!("{group:?}, arkworks' own");
        let points = Multiples::<G>::of(self.values(200));
        let scalars = self.values(200);
        let expected = G::msm(&points.affine, &scalars).unwrap_or_default();
        let got = self.sum_of(
            &case,
            group,
            &points,
            &scalars,
            Form::Canonical,
            0,
            Order::Threads,
        )?;
        same(&case, &point_bytes::<G>(&[expected.into_affine()]), &got)
    }

    /// One sum in both forms, with the scalars at some offset.
    fn sum<G>(
        &mut self,
        group: Group,
        name: &str,
        points: &Multiples<G>,
        scalars: &[S],
    ) -> Result<(), Failure>
    where
        G: CurveGroup<ScalarField = S>,
    {
        let case = format!("sum of {} {group:?} points, {name}", scalars.len());
        let total: S = points.logs.iter().zip(scalars).map(|(k, s)| *k * s).sum();
        let expected = point_bytes::<G>(&[(G::generator() * total).into_affine()]);
        for (form, offset, order) in [
            (Form::Canonical, 0, Order::Sequential),
            (Form::Montgomery, 5, Order::Shuffled),
            (Form::Canonical, 1, Order::Threads),
        ] {
            let got = self.sum_of(&case, group, points, scalars, form, offset, order)?;
            same(&format!("{case}, {form:?}, {order:?}"), &expected, &got)?;
        }
        Ok(())
    }

    /// Where sums can be cut: each part is what its own points come to, and a sum is cut once.
    fn parts<G>(
        &mut self,
        group: Group,
        name: &str,
        points: &Multiples<G>,
        scalars: &[S],
    ) -> Result<(), Failure>
    where
        G: CurveGroup<ScalarField = S>,
    {
        let n = scalars.len();
        let case = format!("parts of a sum of {n} {group:?} points, {name}");
        let mut padded = self.values(3);
        padded.extend_from_slice(scalars);
        let scalars_id = self.vector(&case, &padded, Form::Canonical)?;
        let bytes = points.bytes.clone();
        let bases = self.check(&case, self.device.bases(self.curve, group, bytes))?;
        let work = Work::Msm {
            bases,
            scalars: scalars_id,
            offset: 3,
            form: Form::Canonical,
        };
        let grain = self.check(&case, self.device.plan(&work))?.grain();
        let mut from = 0;
        while let Some(grain) = grain
            && from < n
        {
            let grains = (n - from).div_ceil(grain);
            let to = (from + grain * (1 + self.random.below(grains))).min(n);
            let case = format!("{case}, {from}..{to}");
            let plan = self.check(&case, self.device.plan(&work))?;
            self.check(&case, plan.narrow(from..to))?;
            self.is_lane(&case, plan.narrow(from..to))?;
            self.run_plan(&case, &plan, Order::Shuffled)?;
            self.is_lane(&case, plan.narrow(from..to))?;
            let terms = (from..to).map(|i| points.logs[i] * scalars[i]);
            let total: S = terms.sum();
            let expected = point_bytes::<G>(&[(G::generator() * total).into_affine()]);
            match plan.point() {
                Some(point) => same(&case, &expected, &point)?,
                None => return wrong(&case, &"a point", &"none"),
            }
            from = to;
        }
        self.device.vector_free(scalars_id);
        self.device.bases_free(bases);
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn sum_of<G>(
        &mut self,
        case: &str,
        group: Group,
        points: &Multiples<G>,
        scalars: &[S],
        form: Form,
        offset: usize,
        order: Order,
    ) -> Result<Vec<u8>, Failure>
    where
        G: CurveGroup<ScalarField = S>,
    {
        // What stands before and behind the scalars must not matter.
        let mut padded = self.values(offset);
        padded.extend_from_slice(scalars);
        padded.push(self.value());
        let vector = self.vector(case, &padded, form)?;
        let bytes = points.bytes.clone();
        let ids = self.check(case, self.device.bases(self.curve, group, bytes))?;
        let plan = self.run(
            case,
            &Work::Msm {
                bases: ids,
                scalars: vector,
                offset,
                form,
            },
            order,
        )?;
        self.device.vector_free(vector);
        self.device.bases_free(ids);
        match plan.point() {
            Some(point) => Ok(point),
            None => wrong(case, &"a point", &"none"),
        }
    }

    // Tables.

    /// Whatever the bytes, and whatever the sums were like from which the device has learnt, sums
    /// come out the same: while tables are there, after they are gone, and of a plan that was made
    /// before they went.
    fn tables<G>(&mut self, group: Group) -> Result<(), Failure>
    where
        G: CurveGroup<ScalarField = S> + ScalarMul<MulBase = G::Affine>,
    {
        let device = self.device;
        let n = match self.effort {
            Effort::Quick | Effort::Emulated => 250,
            Effort::Full => 700,
        };
        let (zero, one) = (S::zero(), S::one());
        let random = self.values(n);
        let bits: Vec<S> = (0..n)
            .map(|_| if self.random.below(2) == 0 { zero } else { one })
            .collect();
        let mixed: Vec<S> = (0..n)
            .map(|i| match i % 5 {
                0 => random[i],
                1 => S::from(self.random.next()),
                2 => -bits[i],
                _ => bits[i],
            })
            .collect();
        let many: [(&str, &[S]); 6] = [
            ("random", &random),
            ("bits", &bits),
            ("mixed", &mixed),
            ("ones", &vec![one; n]),
            ("minus ones", &vec![-one; n]),
            ("zeros", &vec![zero; n]),
        ];
        let mut logs = self.values(n);
        for i in 0..n / 4 {
            // Infinity, and doublings and opposites within what will be a group.
            logs[i] = [zero, one, one, -one, one + one][i % 5];
        }
        let equal = vec![logs[n - 1]; n];
        for (points, logs) in [("points", logs), ("equal points", equal)] {
            let points_of = Multiples::<G>::of(logs);
            let expected = |scalars: &[S]| {
                let total: S = points_of
                    .logs
                    .iter()
                    .zip(scalars)
                    .map(|(k, s)| *k * s)
                    .sum();
                point_bytes::<G>(&[(G::generator() * total).into_affine()])
            };
            let cases: Vec<(usize, usize)> = match self.effort {
                Effort::Quick | Effort::Emulated => vec![(2, 12), (1, 12), (0, 60)],
                Effort::Full => [0, 1, 3, 12, 60]
                    .into_iter()
                    .flat_map(|times| (0..3).map(move |learnt| (learnt, times)))
                    .collect(),
            };
            // New bases each time, which have learnt nothing else.
            for (learnt, times) in cases {
                let (learnt, first) = many[learnt];
                let case = format!(
                    "tables of {n} {group:?} {points} after {learnt} scalars, {times} times as large"
                );
                let bytes = points_of.bytes.clone();
                let ids = self.check(&case, device.bases(self.curve, group, bytes.clone()))?;
                let empty = self.check(&case, device.bases(self.curve, group, Bytes::new()))?;
                let plan = |suite: &Self, scalars: &[S]| {
                    let vector = suite.vector(&case, scalars, Form::Canonical)?;
                    let work = Work::Msm {
                        bases: ids,
                        scalars: vector,
                        offset: 0,
                        form: Form::Canonical,
                    };
                    let plan = suite.check(&case, device.plan(&work));
                    device.vector_free(vector);
                    plan
                };
                let is_right = |suite: &mut Self, at: &str, plan: Arc<dyn Plan>, scalars: &[S]| {
                    let case = format!("{case}, {at}");
                    suite.run_plan(&case, &plan, Order::Threads)?;
                    same(&case, &Some(expected(scalars)), &plan.point())
                };
                let before = plan(self, first)?;
                is_right(self, "before any", before, first)?;
                let budget = times * bytes.len();
                let work = Work::Tables {
                    bases: vec![ids, empty],
                    bytes: budget,
                };
                let before = plan(self, first)?;
                self.run(&case, &work, Order::Shuffled)?;
                is_right(self, "planned before them", before, first)?;
                let took = self.check(&case, device.tables_bytes(ids))?
                    + self.check(&case, device.tables_bytes(empty))?;
                if took > budget {
                    return wrong(&case, &format!("at most {budget} bytes"), &took);
                }
                for (name, scalars) in &many {
                    let with = plan(self, scalars)?;
                    is_right(self, &format!("of {name}"), with, scalars)?;
                }
                let before = plan(self, first)?;
                device.tables_free(ids);
                device.tables_free(ids);
                is_right(self, "planned before they went", before, first)?;
                let left = self.check(&case, device.tables_bytes(ids))?;
                same(&case, &0, &left)?;
                let after = plan(self, first)?;
                is_right(self, "after they went", after, first)?;
                device.bases_free(ids);
                device.bases_free(empty);
                self.is_unknown("tables of freed bases", device.tables_bytes(ids))?;
                device.tables_free(ids);
            }
        }
        let none = Work::Tables {
            bases: Vec::new(),
            bytes: 0,
        };
        self.is_length("tables of nothing", device.plan(&none))
    }

    // The contract.

    fn refusals(&mut self) -> Result<(), Failure> {
        let device = self.device;
        let case = "refusals";
        let short = self.vector(case, &[S::one(); 4], Form::Montgomery)?;
        let long = self.vector(case, &[S::one(); 5], Form::Montgomery)?;
        let size = self.curve.point_bytes(Group::G1);
        let points = Bytes::from(vec![0; 5 * size]);
        let refused = device.bases(self.curve, Group::G1, points.slice(1..));
        self.is_length("a part of a point", refused)?;
        let bases = self.check(case, device.bases(self.curve, Group::G1, points))?;
        let entries = Bytes::new();
        let matrix = self.check(case, device.matrix(self.curve, 4, 5, entries.clone()))?;
        let wide = self.check(case, device.matrix(self.curve, 5, 5, entries))?;
        let msm = |scalars, offset| Work::Msm {
            bases,
            scalars,
            offset,
            form: Form::Canonical,
        };
        let product = |matrix, witness, a, b| Work::Product {
            matrix,
            witness,
            a,
            b,
        };
        for (name, work) in [
            ("too few scalars", msm(short, 0)),
            ("too few scalars after the offset", msm(long, 1)),
            ("an offset beyond everything", msm(long, usize::MAX)),
            (
                "factors of two lengths",
                Work::Multiply {
                    a: short,
                    b: long,
                    out: short,
                },
            ),
            (
                "a product of another length",
                Work::Multiply {
                    a: short,
                    b: short,
                    out: long,
                },
            ),
            (
                "a subtrahend of another length",
                Work::MultiplySubtract {
                    a: short,
                    b: short,
                    c: long,
                },
            ),
            ("a witness too short", product(matrix, short, short, short)),
            ("a result too short", product(wide, long, short, short)),
            ("results of two lengths", product(matrix, long, short, long)),
        ] {
            self.is_length(name, device.plan(&work))?;
        }
        let foreign_curve = match self.curve {
            CurveId::Bn254 => CurveId::Bls12_381,
            CurveId::Bls12_381 => CurveId::Bn254,
        };
        let foreign = self.check(case, device.vector(foreign_curve, 5))?;
        for work in [
            msm(foreign, 0),
            Work::Multiply {
                a: long,
                b: foreign,
                out: long,
            },
            product(matrix, foreign, long, long),
            product(matrix, long, long, foreign),
        ] {
            match device.plan(&work).map(|_| ()) {
                Err(DeviceError::Curve { got, .. }) if got == foreign_curve => {}
                other => return wrong("two curves", &"Curve", &other),
            }
        }
        for id in [short, long, foreign] {
            device.vector_free(id);
        }
        self.is_unknown("sum with freed scalars", device.plan(&msm(long, 0)))?;
        let transform = Work::Ntt {
            vector: short,
            transform: Transform::Forward,
        };
        self.is_unknown("transform of a freed vector", device.plan(&transform))?;
        device.bases_free(bases);
        device.bases_free(bases);
        let again = self.vector(case, &[S::one(); 5], Form::Montgomery)?;
        self.is_unknown("sum of freed bases", device.plan(&msm(again, 0)))?;
        device.vector_free(again);
        device.matrix_free(matrix);
        device.matrix_free(wide);
        Ok(())
    }

    fn contract<G>(&mut self) -> Result<(), Failure>
    where
        G: CurveGroup<ScalarField = S> + ScalarMul<MulBase = G::Affine>,
    {
        let case = "the contract of a plan";
        let device = self.device;
        let n = 600;
        let logs = self.values(n);
        let bases = G::generator().batch_mul(&logs);
        let scalars = self.values(n);
        let bytes = Bytes::from(point_bytes::<G>(&bases));
        let vector = self.vector(case, &scalars, Form::Canonical)?;
        let ids = self.check(case, device.bases(self.curve, Group::G1, bytes.clone()))?;
        let work = Work::Msm {
            bases: ids,
            scalars: vector,
            offset: 0,
            form: Form::Canonical,
        };
        let plan = self.check(case, device.plan(&work))?;
        self.is_lane("a lane of a stage that is not open", plan.run(0, 0))?;
        if plan.stages() > 1 {
            self.is_lane("the second stage first", plan.open(1))?;
        }
        let lanes = self.check(case, plan.open(0))?;
        self.is_lane("a stage opened twice", plan.open(0))?;
        if plan.stages() > 1 {
            self.is_lane("a stage while the one before runs", plan.open(1))?;
        }
        self.is_lane("a lane too many", plan.run(0, lanes))?;
        if plan.point().is_some() {
            return wrong(case, &"no point before the end", &"one");
        }
        while self.check(case, plan.run(0, 0))? == Progress::More {}
        self.is_lane("a lane after its end", plan.run(0, 0))?;
        // Dropped with its stage open. A device that keeps the bytes themselves gives them back.
        drop(plan);

        // Plans outlive the ids that they were made from.
        let plan = self.check(case, device.plan(&work))?;
        device.vector_free(vector);
        device.bases_free(ids);
        self.run_plan(case, &plan, Order::Shuffled)?;
        let total: S = logs.iter().zip(&scalars).map(|(k, s)| *k * s).sum();
        let expected = point_bytes::<G>(&[(G::generator() * total).into_affine()]);
        same(case, &Some(expected), &plan.point())?;
        self.is_lane("a stage too many", plan.open(plan.stages()))?;
        drop(plan);
        same("bytes still held by the device", &true, &bytes.is_unique())
    }

    // What the cases share.

    fn values(&mut self, n: usize) -> Vec<S> {
        (0..n).map(|_| self.value()).collect()
    }

    /// Mostly random, now and then at an edge.
    fn value(&mut self) -> S {
        match self.random.below(24) {
            0 => S::zero(),
            1 => S::one(),
            2 => -S::one(),
            3 => S::from(self.random.next()),
            _ => S::rand(&mut self.random),
        }
    }

    fn vector(&self, case: &str, values: &[S], form: Form) -> Result<VectorId, Failure> {
        let id = self.check(case, self.device.vector(self.curve, values.len()))?;
        let bytes = scalar_bytes(values, form);
        self.check(case, self.device.vector_write(id, 0, &bytes))?;
        Ok(id)
    }

    fn holds(&self, case: &str, id: VectorId, expected: &[S]) -> Result<(), Failure> {
        let mut bytes = vec![0; 32 * expected.len()];
        self.check(case, self.device.vector_read(id, 0, &mut bytes))?;
        let expected = scalar_bytes(expected, Form::Montgomery);
        for (i, (expected, got)) in expected.chunks(32).zip(bytes.chunks(32)).enumerate() {
            same(&format!("{case}, element {i}"), expected, got)?;
        }
        Ok(())
    }

    fn run(&mut self, case: &str, work: &Work, order: Order) -> Result<Arc<dyn Plan>, Failure> {
        let plan = self.check(case, self.device.plan(work))?;
        self.run_plan(case, &plan, order)?;
        Ok(plan)
    }

    fn run_plan(&mut self, case: &str, plan: &Arc<dyn Plan>, order: Order) -> Result<(), Failure> {
        for stage in 0..plan.stages() {
            let mut lanes: Vec<usize> = (0..self.check(case, plan.open(stage))?).collect();
            match order {
                Order::Sequential => {
                    for lane in lanes {
                        while self.check(case, plan.run(stage, lane))? == Progress::More {}
                    }
                }
                Order::Shuffled => {
                    while !lanes.is_empty() {
                        let drawn = self.random.below(lanes.len());
                        if self.check(case, plan.run(stage, lanes[drawn]))? == Progress::Done {
                            lanes.swap_remove(drawn);
                        }
                    }
                }
                Order::Threads => {
                    let waiting = Mutex::new(lanes);
                    let threads = || {
                        // A lane that another thread holds is not in the list; a thread that
                        // finds the list empty leaves, and its lanes end with the others.
                        loop {
                            let taken = lock(&waiting).pop();
                            let Some(lane) = taken else {
                                return Ok(());
                            };
                            if plan.run(stage, lane)? == Progress::More {
                                let mut waiting = lock(&waiting);
                                waiting.insert(0, lane);
                            }
                        }
                    };
                    let ended: Result<(), DeviceError> = std::thread::scope(|scope| {
                        let others = [scope.spawn(threads), scope.spawn(threads)];
                        let mut ended = threads();
                        for other in others {
                            match other.join() {
                                Ok(other) => ended = ended.and(other),
                                Err(panic) => std::panic::resume_unwind(panic),
                            }
                        }
                        ended
                    });
                    self.check(case, ended)?;
                }
            }
        }
        Ok(())
    }

    fn check<T>(&self, case: &str, result: Result<T, DeviceError>) -> Result<T, Failure> {
        result.map_err(|error| Failure::Refused {
            case: format!("{} on {:?}: {case}", type_name::<S>(), self.curve),
            error,
        })
    }

    fn is_length<T>(&self, case: &str, result: Result<T, DeviceError>) -> Result<(), Failure> {
        match result.map(|_| ()) {
            Err(DeviceError::Length { .. }) => Ok(()),
            other => wrong(case, &"an error of length", &other),
        }
    }

    fn is_unknown<T>(&self, case: &str, result: Result<T, DeviceError>) -> Result<(), Failure> {
        match result.map(|_| ()) {
            Err(DeviceError::Unknown { .. }) => Ok(()),
            other => wrong(case, &"an unknown id", &other),
        }
    }

    fn is_lane<T>(&self, case: &str, result: Result<T, DeviceError>) -> Result<(), Failure> {
        match result.map(|_| ()) {
            Err(DeviceError::Lane { .. }) => Ok(()),
            other => wrong(case, &"an error of lane or stage", &other),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn same<T: PartialEq + std::fmt::Debug + ?Sized>(
    case: &str,
    expected: &T,
    got: &T,
) -> Result<(), Failure> {
    if expected == got {
        Ok(())
    } else {
        wrong(case, &expected, &got)
    }
}

fn wrong<T>(
    case: &str,
    expected: &dyn std::fmt::Debug,
    got: &dyn std::fmt::Debug,
) -> Result<T, Failure> {
    Err(Failure::Wrong {
        case: case.to_owned(),
        expected: format!("{expected:?}"),
        got: format!("{got:?}"),
    })
}

/// The root of unity of order 2^log2 by snarkjs's definition; 5 is the smallest non-residue of
/// both scalar fields.
fn root<S: PrimeField>(log2: u32) -> S {
    let mut exponent = S::MODULUS;
    for _ in 0..log2 {
        exponent.div2();
    }
    // The modulus less one and the modulus have the same upper bits.
    S::from(5u64).pow(exponent)
}

fn domain<S: PrimeField>(log2: u32) -> Radix2EvaluationDomain<S> {
    let mut domain =
        Radix2EvaluationDomain::<S>::new(1 << log2).expect("sizes are within the two-adicity");
    domain.group_gen = root(log2);
    domain.group_gen_inv = domain
        .group_gen
        .inverse()
        .expect("a root of unity is not zero");
    domain
}

/// A transform by its definition: n^2 products.
fn defined<S: PrimeField>(values: &[S], transform: Transform) -> Vec<S> {
    let n = values.len();
    let w = root::<S>(n.ilog2());
    let evaluate = |coefficients: &[S], at: S| {
        let horner = |sum, coefficient: &S| sum * at + coefficient;
        coefficients.iter().rev().fold(S::zero(), horner)
    };
    let points = |first: S, step: S| (0..n as u64).map(move |i| first * step.pow([i]));
    let one = S::one();
    let inverse = |x: S| x.inverse().expect("neither n nor a root of unity is zero");
    let coefficients = || -> Vec<S> {
        points(one, inverse(w))
            .map(|x| evaluate(values, x) * inverse(S::from(n as u64)))
            .collect()
    };
    match transform {
        Transform::Forward => points(one, w).map(|x| evaluate(values, x)).collect(),
        Transform::Inverse => coefficients(),
        Transform::Shift => {
            let coefficients = coefficients();
            points(root(n.ilog2() + 1), w)
                .map(|x| evaluate(&coefficients, x))
                .collect()
        }
    }
}

/// Bytes of scalars in the device's layout, computed from what R is.
fn scalar_bytes<S: PrimeField>(values: &[S], form: Form) -> Vec<u8> {
    let factor = match form {
        Form::Canonical => S::one(),
        Form::Montgomery => S::from(2u64).pow([256]),
    };
    values
        .iter()
        .flat_map(|value| (*value * factor).into_bigint().to_bytes_le())
        .collect()
}

fn point_bytes<G: CurveGroup>(points: &[G::Affine]) -> Vec<u8> {
    let bits =
        64 * <<G::BaseField as Field>::BasePrimeField as PrimeField>::MODULUS_BIT_SIZE.div_ceil(64);
    let r = <G::BaseField as Field>::BasePrimeField::from(2u64).pow([u64::from(bits)]);
    let mut bytes = Vec::new();
    for point in points {
        let (x, y) = point.xy().unwrap_or_default();
        for coordinate in [x, y] {
            for part in coordinate.to_base_prime_field_elements() {
                bytes.extend((part * r).into_bigint().to_bytes_le());
            }
        }
    }
    bytes
}

fn entry_bytes<S: PrimeField>(entries: &[(u32, u32, u32, S)]) -> Vec<u8> {
    // The coefficient times R^2.
    let factor = S::from(2u64).pow([512]);
    let mut bytes = Vec::new();
    for (matrix, row, column, value) in entries {
        for word in [matrix, row, column] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend((*value * factor).into_bigint().to_bytes_le());
    }
    bytes
}

/// Known multiples of the generator, so that sums of their multiples are known too.
struct Multiples<G: CurveGroup> {
    logs: Vec<G::ScalarField>,
    affine: Vec<G::Affine>,
    bytes: Bytes,
}

impl<G: CurveGroup + ScalarMul<MulBase = <G as CurveGroup>::Affine>> Multiples<G> {
    fn of(logs: Vec<G::ScalarField>) -> Self {
        let affine = G::generator().batch_mul(&logs);
        Self {
            bytes: Bytes::from(point_bytes::<G>(&affine)),
            logs,
            affine,
        }
    }
}

/// SplitMix64: a seed is a test.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e3779b97f4a7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58476d1ce4e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d049bb133111eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

impl ark_std::rand::RngCore for Random {
    fn next_u32(&mut self) -> u32 {
        self.next() as u32
    }

    fn next_u64(&mut self) -> u64 {
        self.next()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.next() as u8;
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), ark_std::rand::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}
