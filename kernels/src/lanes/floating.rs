//! Four elements of a prime field side by side, in doubles.
//!
//! Processors with AVX2 multiply no wide integers in vectors, but doubles, exactly, if the fused
//! multiply-add is asked once for the upper half of a product and once for the rest: two of them
//! do what the two 52-bit multiply-adds do in `radix52.rs`, for Haswell and Zen and all that came
//! after them. The products and their table are `floating/kernels.rs`; here is the rest.
//!
//! **Digits.** A lane holds x R' with R' = 2^(52 K) in K digits of 52 bits that are integers in
//! doubles and have signs, so subtraction is one instruction a digit and negation a change of
//! sign. They are "centred" if all but the top one are in [-2^51, 2^51]. Products ask for
//! |a b| <= 2^103, so of two factors one may be a sum or difference of two centred values and the
//! other must be centred. Doubles hold sums of up to four centred values exactly, for their digits
//! are at most 2^53, and [`Lanes::normal`] makes a factor of such a sum.
//!
//! **Form.** What memory has of a file is shifted into form as its words are cut, as in
//! `radix52.rs`. In engine form the digits lie one after the other as 52-bit integers in two's
//! complement, the top one in the bits that are left. With H the sum of 2^(52 i + 51) over the
//! digits but the top one, a value v is stored as (v + H) xor H. So zero words are zero, and loading
//! needs no carries: a field with its sign bit turned over, put below the exponent of 2^52, is the
//! digit plus 1.5 2^52.
//!
//! **Bounds.** [c] stands for a value of at most c p in magnitude. Loaded from a file an element is
//! [2^S], S = 52 K - 64 N, and in engine form [1]; their difference is [2^S + 1], with or without a
//! changed sign. A product of [a] and [b] is [1.5 + a b p / R'] with five digits, and with eight
//! less; in the quadratic extension the fraction counts twice. With a = 2^S + 1 and b = 3 it is
//! again [3], which [`Form::CLOSED`] asserts for every modulus, so [3] is what [`Lanes::mul`]
//! gives. Reduced results are [0.51]: a multiple of p is taken off to the nearest, with an error
//! below 2^-10 since the top column alone tells which. Because 2 p < 2^(64 N), the top digit of [1]
//! fits its field in engine form, and that of [2^S] is below 2^51 like the others.
//!
//! In transforms values are [1], as they are loaded, [0.51] or [3], and factors from
//! [`Lanes::pack`] are [1]. A sum of four is [12], below 2^S + 1, so its product with a factor is
//! [3] again, and its top digit is below 2^51 with either number of digits.

mod kernels;

use std::arch::x86_64::*;

use crate::field::{self, Fp, Fq2, Modulus, PrimeField};

use super::pairs::Pairs;
use super::radix52::Radix;
use super::{Lanes, WIDTH_MAX, rows, rows_mut};
use kernels::{CENTRE, Integers, MASK, Product, Products, Table, UNIT};

/// The token of a processor with AVX2 and fused multiply-add.
#[derive(Clone, Copy, Debug)]
pub struct Floating(());

impl Floating {
    /// The token, where processor and operating system have what it takes.
    pub(crate) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        has.then_some(Self(()))
    }
}

/// Constants of a field of N words in K digits.
struct Form<M, const N: usize, const K: usize>(std::marker::PhantomData<M>);

impl<M: Modulus<N>, const N: usize, const K: usize> Form<M, N, K> {
    const TABLE: &'static Table<K> = {
        assert!(Self::CLOSED);
        &Table::new::<M, N>()
    };
    /// log2 of R' / R.
    const SHIFT: usize = 52 * K - 64 * N;
    /// Digits of p.
    const P: [f64; K] = kernels::digits_of(&M::MODULUS, false);
    /// 2^(52 (K - 1)) / p.
    const RECIPROCAL: f64 = kernels::reciprocal::<N, K>(&M::MODULUS);
    /// R / R'.
    const UNSHIFT: Fp<M, N> = Fp::power_of_half(Self::SHIFT);
    /// 2^(52 K) mod p.
    const ONE: [f64; K] = kernels::centred(&field::power_of_two(&M::MODULUS, 52 * K), &M::MODULUS);
    /// The sign bits of all digits but the top one.
    const SIGNS: [u64; N] = {
        let mut words = [0; N];
        let mut i = 0;
        while i + 1 < K {
            words[(52 * i + 51) / 64] |= 1 << ((52 * i + 51) % 64);
            i += 1;
        }
        words
    };
    /// The sign bit of the top digit, in its field.
    const TOP_SIGN: u64 = 1 << (64 * N - 52 * (K - 1) - 1);
    /// Whether products by a difference keep the bound of products.
    const CLOSED: bool = {
        // p / R', a little more.
        let fraction =
            (M::MODULUS[N - 1] as f64 + 1.0) / (1u128 << 64) as f64 / (1u64 << Self::SHIFT) as f64;
        // The quadratic extension of four words is over a modulus with two bits to spare.
        let products = if M::MODULUS[N - 1] >> 62 == 0 {
            2.0
        } else {
            1.0
        };
        let difference = (1u64 << Self::SHIFT) as f64 + 1.0;
        1.5 + products * difference * 3.0 * fraction <= 3.0
    };
}

// SAFETY of the blocks of these functions, where nothing else is said: the token says that the
// processor has the instructions, and none of them touches memory.
//
// They are loops, since the closures of `map` and `from_fn` stay without the processor's features
// where the compiler does not inline them, and then no instruction is inlined into them.
impl Floating {
    #[inline(always)]
    fn splat(self, x: f64) -> __m256d {
        // SAFETY: see above.
        unsafe { _mm256_set1_pd(x) }
    }

    #[inline(always)]
    fn words(self, x: u64) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_set1_epi64x(x as i64) }
    }

    /// The words of elements, one from each of four rows.
    ///
    /// # Safety
    /// The first four pointers are valid for reads of N words.
    #[inline(always)]
    unsafe fn words_in<const N: usize>(self, rows: &[*const u64; WIDTH_MAX]) -> [__m256i; N] {
        const { assert!(N >= 4) }
        let mut words = [self.words(0); N];
        // Four up to the end, and four from the start.
        for from in [N - 4, 0] {
            let mut part = [self.words(0); 4];
            for i in 0..4 {
                // SAFETY: the caller vouches for the words; the load needs no alignment.
                part[i] = unsafe { _mm256_loadu_si256(rows[i].wrapping_add(from).cast()) };
            }
            words[from..from + 4].copy_from_slice(&self.transpose(part));
        }
        words
    }

    /// The other way.
    ///
    /// # Safety
    /// The first four pointers are valid for writes of N words.
    #[inline(always)]
    unsafe fn words_out<const N: usize>(self, rows: &[*mut u64; WIDTH_MAX], words: &[__m256i; N]) {
        const { assert!(N >= 4) }
        for from in [N - 4, 0] {
            if from == 0 || N > 4 {
                let part = [
                    words[from],
                    words[from + 1],
                    words[from + 2],
                    words[from + 3],
                ];
                let part = self.transpose(part);
                for i in 0..4 {
                    // SAFETY: the caller vouches for the words; the store needs no alignment.
                    unsafe { _mm256_storeu_si256(rows[i].wrapping_add(from).cast(), part[i]) }
                }
            }
        }
    }

    /// Word j of row i becomes word i of row j.
    #[inline(always)]
    fn transpose(self, rows: [__m256i; 4]) -> [__m256i; 4] {
        // SAFETY: see above.
        unsafe {
            let a = _mm256_unpacklo_epi64(rows[0], rows[1]);
            let b = _mm256_unpackhi_epi64(rows[0], rows[1]);
            let c = _mm256_unpacklo_epi64(rows[2], rows[3]);
            let d = _mm256_unpackhi_epi64(rows[2], rows[3]);
            [
                _mm256_permute2x128_si256::<0x20>(a, c),
                _mm256_permute2x128_si256::<0x20>(b, d),
                _mm256_permute2x128_si256::<0x31>(a, c),
                _mm256_permute2x128_si256::<0x31>(b, d),
            ]
        }
    }

    /// Bit i of the result says that all words of lane i are zero.
    #[inline(always)]
    fn zeros<const N: usize>(self, words: &[__m256i; N]) -> u8 {
        // SAFETY: see above.
        unsafe {
            let mut any = words[0];
            for &word in &words[1..] {
                any = _mm256_or_si256(any, word);
            }
            let zeros = _mm256_cmpeq_epi64(any, _mm256_setzero_si256());
            _mm256_movemask_pd(_mm256_castsi256_pd(zeros)) as u8
        }
    }

    /// Field i, of 52 bits, of words times 2^shift.
    #[inline(always)]
    fn field<const N: usize>(self, words: &[__m256i; N], i: usize, shift: usize) -> __m256i {
        // SAFETY: see above. Constant counts become immediates.
        unsafe {
            let mask = self.words(MASK);
            let Some(bit) = (52 * i).checked_sub(shift) else {
                let count = self.words((shift - 52 * i) as u64);
                return _mm256_and_si256(_mm256_sllv_epi64(words[0], count), mask);
            };
            let (word, bit) = (bit / 64, bit % 64);
            let mut field = _mm256_srlv_epi64(words[word], self.words(bit as u64));
            if bit > 12 && word + 1 < N {
                let above = _mm256_sllv_epi64(words[word + 1], self.words(64 - bit as u64));
                field = _mm256_or_si256(field, above);
            }
            _mm256_and_si256(field, mask)
        }
    }

    /// Digits of words in engine form.
    #[inline(always)]
    fn digits<const N: usize, const K: usize>(
        self,
        words: &[__m256i; N],
        top_sign: u64,
    ) -> [__m256d; K] {
        let mut digits = [self.splat(0.0); K];
        for (i, digit) in digits.iter_mut().enumerate() {
            let sign = if i + 1 < K { 1 << 51 } else { top_sign };
            let field = self.field(words, i, 0);
            // SAFETY: see above.
            unsafe {
                let biased = _mm256_xor_si256(field, self.words(UNIT | sign));
                let bias = self.splat(((1 << 52) + sign) as f64);
                *digit = _mm256_sub_pd(_mm256_castsi256_pd(biased), bias);
            }
        }
        digits
    }

    /// Centred digits of words from a file.
    #[inline(always)]
    fn file_digits<const N: usize, const K: usize>(
        self,
        words: &[__m256i; N],
        shift: usize,
    ) -> [__m256d; K] {
        let mut digits = [self.splat(0.0); K];
        let mut carry = self.words(0);
        for (i, digit) in digits.iter_mut().enumerate() {
            // SAFETY: see above.
            unsafe {
                let mut field = _mm256_add_epi64(self.field(words, i, shift), carry);
                let mut bias = (1u64 << 52) as f64;
                if i + 1 < K {
                    field = _mm256_add_epi64(field, self.words(1 << 51));
                    carry = _mm256_srli_epi64::<52>(field);
                    field = _mm256_and_si256(field, self.words(MASK));
                    bias *= 1.5;
                }
                let biased = _mm256_or_si256(field, self.words(UNIT));
                *digit = _mm256_sub_pd(_mm256_castsi256_pd(biased), self.splat(bias));
            }
        }
        digits
    }

    /// Words in engine form of centred digits below 2^51, the top one within its field.
    #[inline(always)]
    fn join<const N: usize, const K: usize>(self, digits: &[__m256d; K]) -> [__m256i; N] {
        let mut fields = [self.words(0); K];
        for i in 0..K {
            // SAFETY: see above.
            unsafe {
                let biased = _mm256_add_pd(digits[i], self.splat(f64::from_bits(CENTRE)));
                fields[i] = _mm256_xor_si256(_mm256_castpd_si256(biased), self.words(CENTRE));
            }
        }
        self.join_fields(&fields)
    }

    /// Words of fields of 52 bits, the top one of those that are left.
    #[inline(always)]
    fn join_fields<const N: usize, const K: usize>(self, fields: &[__m256i; K]) -> [__m256i; N] {
        let mut words = [self.words(0); N];
        for (i, &field) in fields.iter().enumerate() {
            let (word, bit) = (52 * i / 64, 52 * i % 64);
            // SAFETY: see above.
            unsafe {
                let low = _mm256_sllv_epi64(field, self.words(bit as u64));
                words[word] = _mm256_or_si256(words[word], low);
                if bit > 12 && word + 1 < N {
                    words[word + 1] = _mm256_srlv_epi64(field, self.words(64 - bit as u64));
                }
            }
        }
        words
    }

    /// Words of the integers below p that centred digits of [0.51] stand for mod p.
    #[inline(always)]
    fn join_canonical<M: Modulus<N>, const N: usize, const K: usize>(
        self,
        digits: &[__m256d; K],
    ) -> [__m256i; N] {
        let mut fields = [self.words(0); K];
        // SAFETY: see above.
        unsafe {
            // Integers of 52 bits without signs, but for the top one, which has that of the value.
            // Each is lent a unit of the next, so that carries have no signs.
            let mut carry = self.words(1);
            for i in 0..K {
                let biased = _mm256_add_pd(digits[i], self.splat(f64::from_bits(CENTRE)));
                let lent = if i + 1 < K { 1u64 << 52 } else { 0 };
                let offset = self.words(lent.wrapping_sub(CENTRE + 1));
                fields[i] = _mm256_add_epi64(_mm256_castpd_si256(biased), offset);
                fields[i] = _mm256_add_epi64(fields[i], carry);
                if i + 1 < K {
                    carry = _mm256_srli_epi64::<52>(fields[i]);
                    fields[i] = _mm256_and_si256(fields[i], self.words(MASK));
                }
            }
            let negative = _mm256_cmpgt_epi64(self.words(0), fields[K - 1]);
            let mut carry = self.words(0);
            for (i, field) in fields.iter_mut().enumerate() {
                let p = self.words(Radix::<M, N, K>::P[i]);
                *field = _mm256_add_epi64(*field, _mm256_and_si256(p, negative));
                *field = _mm256_add_epi64(*field, carry);
                if i + 1 < K {
                    carry = _mm256_srli_epi64::<52>(*field);
                    *field = _mm256_and_si256(*field, self.words(MASK));
                }
            }
        }
        self.join_fields(&fields)
    }

    #[inline(always)]
    fn add<const K: usize>(self, a: &[__m256d; K], b: &[__m256d; K]) -> [__m256d; K] {
        let mut sum = *a;
        for i in 0..K {
            // SAFETY: see above.
            sum[i] = unsafe { _mm256_add_pd(a[i], b[i]) };
        }
        sum
    }

    #[inline(always)]
    fn sub<const K: usize>(self, a: &[__m256d; K], b: &[__m256d; K]) -> [__m256d; K] {
        let mut difference = *a;
        for i in 0..K {
            // SAFETY: see above.
            difference[i] = unsafe { _mm256_sub_pd(a[i], b[i]) };
        }
        difference
    }

    /// Changes signs where the mask is set.
    #[inline(always)]
    fn negate_where<const K: usize>(self, mask: u8, x: &[__m256d; K]) -> [__m256d; K] {
        let mut x = *x;
        // SAFETY: see above.
        unsafe {
            let lanes = _mm256_setr_epi64x(1, 2, 4, 8);
            let mask = _mm256_and_si256(self.words(u64::from(mask)), lanes);
            let signs = _mm256_slli_epi64::<63>(_mm256_cmpeq_epi64(mask, lanes));
            for x in &mut x {
                *x = _mm256_xor_pd(*x, _mm256_castsi256_pd(signs));
            }
        }
        x
    }

    #[inline(always)]
    fn negate<const K: usize>(self, x: &[__m256d; K]) -> [__m256d; K] {
        let mut x = *x;
        for x in &mut x {
            // SAFETY: see above.
            *x = unsafe { _mm256_xor_pd(*x, self.splat(-0.0)) };
        }
        x
    }

    /// Digits of up to 2^53 to digits of at most 2^51 + 2, but for the top one: carries go one digit
    /// up and no further.
    #[inline(always)]
    fn normal<const K: usize>(self, mut x: [__m256d; K]) -> [__m256d; K] {
        let rounding = self.splat(1.5 * (1u128 << 104) as f64);
        let scale = self.splat(1.0 / (1u64 << 52) as f64);
        let mut below = self.splat(0.0);
        for digit in &mut x[..K - 1] {
            // SAFETY: see above.
            unsafe {
                // The multiple of 2^52 that is next.
                let high = _mm256_sub_pd(_mm256_add_pd(*digit, rounding), rounding);
                *digit = _mm256_fmadd_pd(below, scale, _mm256_sub_pd(*digit, high));
                below = high;
            }
        }
        // SAFETY: see above.
        x[K - 1] = unsafe { _mm256_fmadd_pd(below, scale, x[K - 1]) };
        x
    }

    /// Takes off the multiple of p next to a value of up to [2^S + 1], as its top digit tells, whose
    /// digits are up to 2^53: gives [0.51] in centred digits. The digits below the top one make
    /// little more than two of its units, less than 2^-14 p.
    #[inline(always)]
    fn reduced<M: Modulus<N>, const N: usize, const K: usize>(
        self,
        mut x: [__m256d; K],
    ) -> [__m256d; K] {
        let rounding = self.splat(1.5 * (1u128 << 104) as f64);
        let scale = self.splat(1.0 / (1u64 << 52) as f64);
        let centre = self.splat(f64::from_bits(CENTRE));
        let reciprocal = self.splat(Form::<M, N, K>::RECIPROCAL);
        // SAFETY: see above.
        unsafe {
            let quotient = _mm256_fmadd_pd(x[K - 1], reciprocal, centre);
            let quotient = _mm256_sub_pd(centre, quotient);
            let mut below = self.splat(0.0);
            for (digit, &p) in x[..K - 1].iter_mut().zip(&Form::<M, N, K>::P) {
                let p = self.splat(p);
                // Of the digit and of the product, the multiples of 2^52 next to them, and what is
                // left: twice at most 2^51.
                let high = _mm256_sub_pd(_mm256_add_pd(*digit, rounding), rounding);
                let product = _mm256_sub_pd(_mm256_fmadd_pd(quotient, p, rounding), rounding);
                let rest = _mm256_sub_pd(*digit, high);
                let rest = _mm256_add_pd(rest, _mm256_fmsub_pd(quotient, p, product));
                *digit = _mm256_fmadd_pd(below, scale, rest);
                below = _mm256_add_pd(high, product);
            }
            let p = self.splat(Form::<M, N, K>::P[K - 1]);
            let top = _mm256_fmadd_pd(quotient, p, x[K - 1]);
            x[K - 1] = _mm256_fmadd_pd(below, scale, top);
        }
        self.centre(x)
    }

    /// Centres the digits of a sum of two centred values, or little more.
    #[inline(always)]
    fn centre<const K: usize>(self, mut x: [__m256d; K]) -> [__m256d; K] {
        let rounding = self.splat(1.5 * (1u128 << 104) as f64);
        let scale = self.splat(1.0 / (1u64 << 52) as f64);
        for i in 0..K - 1 {
            // SAFETY: see above.
            unsafe {
                // The multiple of 2^52 that is next.
                let carry = _mm256_sub_pd(_mm256_add_pd(x[i], rounding), rounding);
                x[i] = _mm256_sub_pd(x[i], carry);
                x[i + 1] = _mm256_fmadd_pd(carry, scale, x[i + 1]);
            }
        }
        x
    }

    /// Integers less centred digits.
    #[inline(always)]
    fn less<const K: usize>(self, mut integers: Integers<K>, x: &[__m256d; K]) -> Integers<K> {
        for i in 0..K {
            // SAFETY: see above.
            unsafe {
                let biased = _mm256_add_pd(x[i], self.splat(f64::from_bits(CENTRE)));
                let x = _mm256_sub_epi64(_mm256_castpd_si256(biased), self.words(CENTRE));
                let difference = _mm256_sub_epi64(_mm256_castpd_si256(integers[i]), x);
                integers[i] = _mm256_castsi256_pd(difference);
            }
        }
        integers
    }

    #[inline(always)]
    fn zero<const K: usize>(self) -> Integers<K> {
        [self.splat(0.0); K]
    }

    /// -(2 x + d), where d is another centred value less x, so that x + d is centred again.
    #[inline(always)]
    fn less_twice<const K: usize>(self, x: &[__m256d; K], d: &[__m256d; K]) -> Integers<K> {
        self.less(self.less(self.zero(), x), &self.add(x, d))
    }

    /// A kernel's result, for a sum that starts at these integers.
    #[inline(always)]
    fn product<M: Modulus<N>, const N: usize, const K: usize>(
        self,
        kernel: Product<K>,
        mut z: Integers<K>,
        a: &[__m256d; K],
        b: &[__m256d; K],
    ) -> [__m256d; K] {
        // SAFETY: the token says that the processor has the instructions.
        unsafe { kernel(&mut z, a, b, Form::<M, N, K>::TABLE) }
        z
    }

    /// The same for two products.
    #[inline(always)]
    fn products<M: Modulus<N>, const N: usize, const K: usize>(
        self,
        kernel: Products<K>,
        mut z: Integers<K>,
        first: [&[__m256d; K]; 2],
        second: [&[__m256d; K]; 2],
    ) -> [__m256d; K] {
        let [a, b] = first;
        let [c, d] = second;
        // SAFETY: the token says that the processor has the instructions.
        unsafe { kernel(&mut z, a, b, Form::<M, N, K>::TABLE, c, d) }
        z
    }
}

macro_rules! floating_lanes {
    ($words:literal, $digits:literal, $multiply:ident, $dot:ident, $multiply_reduced:ident,
     $dot_reduced:ident, $square_reduced:ident) => {
        impl<M: Modulus<$words>> Lanes<Fp<M, $words>> for Floating {
            const WIDTH: usize = 4;
            type Vector = [__m256d; $digits];

            #[inline(always)]
            unsafe fn gather<const FILE: bool>(
                self,
                rows: &[*const u64; WIDTH_MAX],
            ) -> (Self::Vector, u8) {
                // SAFETY: the caller vouches for the words of an element at each pointer.
                let words: [__m256i; $words] = unsafe { self.words_in(rows) };
                let digits = if FILE {
                    self.file_digits(&words, Form::<M, $words, $digits>::SHIFT)
                } else {
                    self.digits(&words, Form::<M, $words, $digits>::TOP_SIGN)
                };
                (digits, self.zeros(&words))
            }

            #[inline(always)]
            unsafe fn scatter(self, rows: &[*mut u64; WIDTH_MAX], x: Self::Vector) {
                let words: [__m256i; $words] = self.join(&x);
                // SAFETY: the caller vouches for the words of an element at each pointer.
                unsafe { self.words_out(rows, &words) }
            }

            /// [1].
            #[inline(always)]
            unsafe fn take_rows(self, rows: &[*const u64; WIDTH_MAX]) -> Self::Vector {
                // SAFETY: the caller vouches for the words of an element at each pointer.
                let words: [__m256i; $words] = unsafe { self.words_in(rows) };
                self.file_digits(&words, 0)
            }

            #[inline(always)]
            unsafe fn put_rows(self, rows: &[*mut u64; WIDTH_MAX], x: Self::Vector) {
                let x = self.reduced::<M, $words, $digits>(x);
                let words = self.join_canonical::<M, $words, $digits>(&x);
                // SAFETY: the caller vouches for the words of an element at each pointer.
                unsafe { self.words_out(rows, &words) }
            }

            #[inline(always)]
            fn turn(self, block: &mut [Self::Vector]) {
                assert_eq!(block.len(), 4);
                for i in 0..$digits {
                    let mut digits = [self.words(0); 4];
                    // SAFETY: see above; these change no bits.
                    unsafe {
                        for j in 0..4 {
                            digits[j] = _mm256_castpd_si256(block[j][i]);
                        }
                        let digits = self.transpose(digits);
                        for j in 0..4 {
                            block[j][i] = _mm256_castsi256_pd(digits[j]);
                        }
                    }
                }
            }

            #[inline(always)]
            fn one(self) -> Self::Vector {
                let mut one = [self.splat(0.0); $digits];
                for i in 0..$digits {
                    one[i] = self.splat(Form::<M, $words, $digits>::ONE[i]);
                }
                one
            }

            #[inline(always)]
            fn plus(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                self.add(&a, &b)
            }

            #[inline(always)]
            fn minus(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                self.sub(&a, &b)
            }

            #[inline(always)]
            fn normal(self, x: Self::Vector) -> Self::Vector {
                self.normal(x)
            }

            /// [2^S + 1] -> [0.51].
            #[inline(always)]
            fn reduced(self, x: Self::Vector) -> Self::Vector {
                self.reduced::<M, $words, $digits>(x)
            }

            /// [2^S] -> [0.51].
            #[inline(always)]
            fn fit(self, negative: u8, x: Self::Vector) -> Self::Vector {
                // By one, for digits below 2^51 that engine form can hold.
                self.product::<M, $words, $digits>(
                    kernels::$multiply_reduced,
                    self.zero(),
                    &self.negate_where(negative, &x),
                    &Lanes::<Fp<M, $words>>::one(self),
                )
            }

            /// [2^S], [1] -> [3].
            #[inline(always)]
            fn scale(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                Lanes::<Fp<M, $words>>::mul(self, a, b)
            }

            /// [2^S + 1], [3] -> [3].
            #[inline(always)]
            fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                self.product::<M, $words, $digits>(kernels::$multiply, self.zero(), &a, &b)
            }

            #[inline(always)]
            fn difference(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                self.sub(&a, &b)
            }

            #[inline(always)]
            fn signed_difference(
                self,
                negative: u8,
                a: Self::Vector,
                b: Self::Vector,
            ) -> Self::Vector {
                self.sub(&self.negate_where(negative, &a), &b)
            }

            /// s [3], x [1], d [2^S + 1] -> [0.51].
            #[inline(always)]
            fn square_less(
                self,
                s: Self::Vector,
                x: Self::Vector,
                d: Self::Vector,
            ) -> Self::Vector {
                let less = self.less_twice(&x, &d);
                self.product::<M, $words, $digits>(kernels::$square_reduced, less, &s, &s)
            }

            /// s [3], x [1], x3 [1], y [1] -> [0.51].
            #[inline(always)]
            fn chord(
                self,
                s: Self::Vector,
                x: Self::Vector,
                x3: Self::Vector,
                y: Self::Vector,
            ) -> Self::Vector {
                let across = self.sub(&x, &x3);
                let less = self.less(self.zero(), &y);
                self.product::<M, $words, $digits>(kernels::$multiply_reduced, less, &s, &across)
            }

            #[inline(always)]
            fn unpack(self, x: Self::Vector, elements: &mut [Fp<M, $words>; WIDTH_MAX]) {
                let x = Lanes::<Fp<M, $words>>::fit(self, 0, x);
                // SAFETY: the rows are elements, whose bytes are their words.
                unsafe { Lanes::<Fp<M, $words>>::scatter(self, &rows_mut(elements), x) }
                for element in &mut elements[..4] {
                    *element = <Self as Lanes<Fp<M, $words>>>::load(element);
                }
            }

            #[inline(always)]
            fn pack(self, elements: &[Fp<M, $words>; WIDTH_MAX]) -> Self::Vector {
                let mut stored = *elements;
                for element in &mut stored[..4] {
                    *element = <Self as Lanes<Fp<M, $words>>>::store(element);
                }
                // SAFETY: the rows are elements, whose bytes are their words.
                unsafe { Lanes::<Fp<M, $words>>::gather::<false>(self, &rows(&stored, 4)).0 }
            }

            fn store(x: &Fp<M, $words>) -> Fp<M, $words> {
                let signs = Form::<M, $words, $digits>::SIGNS;
                let x = *x * Fp::from(1u64 << Form::<M, $words, $digits>::SHIFT);
                let sum = field::add_words(&x.montgomery_words(), &signs);
                Fp::from_montgomery_words(std::array::from_fn(|i| sum[i] ^ signs[i]))
            }

            fn load(stored: &Fp<M, $words>) -> Fp<M, $words> {
                let signs = Form::<M, $words, $digits>::SIGNS;
                let words = stored.montgomery_words();
                let words = std::array::from_fn(|i| words[i] ^ signs[i]);
                let (mut words, _) = field::subtract_borrowing(&words, &signs, false);
                // In two's complement, and at most p in magnitude.
                if words[$words - 1] >> 63 == 1 {
                    words = field::add_words(&words, &M::MODULUS);
                }
                Fp::from_montgomery_words(words) * Form::<M, $words, $digits>::UNSHIFT
            }
        }

        impl<M: Modulus<$words>> Pairs<M, $words> for Floating {
            #[inline(always)]
            fn nought(self) -> [__m256d; $digits] {
                [self.splat(0.0); $digits]
            }

            /// Two products and one reduction for each part: Karatsuba's three products have a
            /// reduction each, for their columns do not fit the registers, and sums to centre.
            /// [2^S + 1], [3] -> [3].
            #[inline(always)]
            fn mul(
                self,
                a: [[__m256d; $digits]; 2],
                b: [[__m256d; $digits]; 2],
            ) -> [[__m256d; $digits]; 2] {
                let minus = self.negate(&a[1]);
                [
                    self.products::<M, $words, $digits>(
                        kernels::$dot,
                        self.zero(),
                        [&a[0], &b[0]],
                        [&minus, &b[1]],
                    ),
                    self.products::<M, $words, $digits>(
                        kernels::$dot,
                        self.zero(),
                        [&a[0], &b[1]],
                        [&a[1], &b[0]],
                    ),
                ]
            }

            /// (s0 + s1)(s0 - s1) + 2 s0 s1 u.
            #[inline(always)]
            fn square_less(
                self,
                s: [[__m256d; $digits]; 2],
                x: [[__m256d; $digits]; 2],
                d: [[__m256d; $digits]; 2],
            ) -> [[__m256d; $digits]; 2] {
                let sum = self.centre(self.add(&s[0], &s[1]));
                let difference = self.sub(&s[0], &s[1]);
                let twice = self.add(&s[0], &s[0]);
                [
                    self.product::<M, $words, $digits>(
                        kernels::$multiply_reduced,
                        self.less_twice(&x[0], &d[0]),
                        &sum,
                        &difference,
                    ),
                    self.product::<M, $words, $digits>(
                        kernels::$multiply_reduced,
                        self.less_twice(&x[1], &d[1]),
                        &twice,
                        &s[1],
                    ),
                ]
            }

            #[inline(always)]
            fn chord(
                self,
                s: [[__m256d; $digits]; 2],
                x: [[__m256d; $digits]; 2],
                x3: [[__m256d; $digits]; 2],
                y: [[__m256d; $digits]; 2],
            ) -> [[__m256d; $digits]; 2] {
                let across = [self.sub(&x[0], &x3[0]), self.sub(&x[1], &x3[1])];
                let minus = self.negate(&s[1]);
                [
                    self.products::<M, $words, $digits>(
                        kernels::$dot_reduced,
                        self.less(self.zero(), &y[0]),
                        [&s[0], &across[0]],
                        [&minus, &across[1]],
                    ),
                    self.products::<M, $words, $digits>(
                        kernels::$dot_reduced,
                        self.less(self.zero(), &y[1]),
                        [&s[0], &across[1]],
                        [&s[1], &across[0]],
                    ),
                ]
            }

            #[inline(always)]
            fn residue(self, a: [[__m256d; $digits]; 2]) -> [[__m256d; $digits]; 2] {
                let nine = Lanes::<Fq2<M, $words>>::nine_times(self, a);
                [
                    self.reduced::<M, $words, $digits>(self.sub(&nine[0], &a[1])),
                    self.reduced::<M, $words, $digits>(self.add(&nine[1], &a[0])),
                ]
            }

            #[inline(always)]
            fn sum_of_two(
                self,
                start: [[__m256d; $digits]; 2],
                [(a0, b0), (a1, b1)]: [([[__m256d; $digits]; 2], [[__m256d; $digits]; 2]); 2],
            ) -> [[__m256d; $digits]; 2] {
                let (first, second) = (
                    Lanes::<Fq2<M, $words>>::mul(self, a0, b0),
                    Lanes::<Fq2<M, $words>>::mul(self, a1, b1),
                );
                let products = Lanes::<Fq2<M, $words>>::plus(self, first, second);
                let sum = Lanes::<Fq2<M, $words>>::plus(self, start, products);
                Lanes::<Fq2<M, $words>>::reduced(self, sum)
            }

            #[inline(always)]
            fn sum_of_three(
                self,
                [(a0, b0), (a1, b1), (a2, b2)]: [([[__m256d; $digits]; 2], [[__m256d; $digits]; 2]);
                    3],
            ) -> [[__m256d; $digits]; 2] {
                let (first, second) = (
                    Lanes::<Fq2<M, $words>>::mul(self, a0, b0),
                    Lanes::<Fq2<M, $words>>::mul(self, a1, b1),
                );
                let products = Lanes::<Fq2<M, $words>>::plus(self, first, second);
                let third = Lanes::<Fq2<M, $words>>::mul(self, a2, b2);
                let sum = Lanes::<Fq2<M, $words>>::plus(self, products, third);
                Lanes::<Fq2<M, $words>>::reduced(self, sum)
            }
        }
    };
}

floating_lanes!(
    4,
    5,
    multiply_5,
    dot_5,
    multiply_reduced_5,
    dot_reduced_5,
    square_reduced_5
);
floating_lanes!(
    6,
    8,
    multiply_8,
    dot_8,
    multiply_reduced_8,
    dot_reduced_8,
    multiply_reduced_8
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{Field, ModulusFqBls12_381, ModulusFqBn254};
    use crate::field::{FqBls12_381, FqBn254, ModulusFrBls12_381, ModulusFrBn254};

    /// Sums of four values, with digits at the ends of what there may be.
    #[test]
    fn sums_of_four_are_normalised_and_reduced_and_stored() {
        fn value<F: PrimeField>(digits: &[f64]) -> F {
            let radix = F::from(1u64 << 52);
            digits.iter().rev().fold(F::ZERO, |sum, &digit| {
                let magnitude = F::from(digit.abs() as u64);
                sum * radix + if digit < 0.0 { -magnitude } else { magnitude }
            })
        }
        fn digits<const K: usize>(x: &[__m256d; K], lane: usize) -> [f64; K] {
            std::array::from_fn(|i| {
                // SAFETY: as many bytes, and every pattern is a value.
                let lanes = unsafe { std::mem::transmute::<__m256d, [f64; 4]>(x[i]) };
                lanes[lane]
            })
        }
        fn sums<M: Modulus<N>, const N: usize, const K: usize>(lanes: Floating)
        where
            Floating: Lanes<Fp<M, N>, Vector = [__m256d; K]>,
            Fp<M, N>: PrimeField,
        {
            let top_max = (12.0 / Form::<M, N, K>::RECIPROCAL).floor();
            let ends = [
                (1u64 << 53) as f64,
                (1u64 << 53) as f64 - 1.0,
                1.5 * (1u64 << 52) as f64,
                (1u64 << 51) as f64,
                (1u64 << 51) as f64 + 1.0,
                1.0,
                0.0,
            ];
            let mut seed = 1u64;
            for round in 0..4000 {
                let mut x = [[0.0; 4]; K];
                for (i, digit) in x.iter_mut().enumerate() {
                    for digit in digit {
                        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
                        let which = (seed >> 40) as usize;
                        *digit = ends[which % 7] * if which & 64 == 0 { 1.0 } else { -1.0 };
                        if i + 1 == K {
                            // Multiples of p, their halves, and zero among them.
                            let part = f64::from((which % 49) as u32) / 48.0 - 0.5;
                            *digit = (2.0 * part * top_max).round();
                        } else if round % 4 == 0 {
                            // Nothing but the multiple, or close to it.
                            *digit = (which % 3) as f64 - 1.0;
                        }
                    }
                }
                // SAFETY: as many bytes, and every pattern is a value.
                let x: [__m256d; K] =
                    x.map(|x| unsafe { std::mem::transmute::<[f64; 4], __m256d>(x) });
                let normal = Lanes::<Fp<M, N>>::normal(lanes, x);
                let reduced = Lanes::<Fp<M, N>>::reduced(lanes, x);
                let mut put = [Fp::<M, N>::ZERO; 4];
                lanes.put(x, &mut put);
                let taken = lanes.take(&put);
                for (lane, put) in put.iter().enumerate() {
                    let expected = value::<Fp<M, N>>(&digits(&x, lane));
                    let normal = digits(&normal, lane);
                    assert_eq!(value::<Fp<M, N>>(&normal), expected);
                    for digit in &normal[..K - 1] {
                        assert!(digit.abs() <= ((1u64 << 51) + 2) as f64);
                    }
                    let reduced = digits(&reduced, lane);
                    assert_eq!(value::<Fp<M, N>>(&reduced), expected);
                    for digit in &reduced[..K - 1] {
                        assert!(digit.abs() <= (1u64 << 51) as f64);
                    }
                    assert!(reduced[K - 1].abs() * Form::<M, N, K>::RECIPROCAL <= 0.51);
                    let (mut stored, mut words) = (vec![0; 8 * N], vec![0; 8 * N]);
                    put.to_montgomery_le(&mut stored);
                    expected.to_canonical_le(&mut words);
                    assert_eq!(stored, words);
                    let taken = digits(&taken, lane);
                    assert_eq!(value::<Fp<M, N>>(&taken), expected);
                    for digit in &taken[..K - 1] {
                        assert!(digit.abs() <= (1u64 << 51) as f64);
                    }
                }
            }
        }
        let Some(lanes) = Floating::detect() else {
            return;
        };
        sums::<ModulusFqBn254, 4, 5>(lanes);
        sums::<ModulusFrBn254, 4, 5>(lanes);
        sums::<ModulusFrBls12_381, 4, 5>(lanes);
        sums::<ModulusFqBls12_381, 6, 8>(lanes);
    }

    /// Any words are digits in engine form, and come back.
    #[test]
    fn words_come_back_as_they_were() {
        fn come_back<F: PrimeField>(lanes: Floating, words: impl Fn(usize) -> F::Words)
        where
            Floating: Lanes<F>,
        {
            let stored: [F; WIDTH_MAX] =
                std::array::from_fn(|i| F::from_montgomery_words(words(i)));
            let mut out = [F::ZERO; WIDTH_MAX];
            let from = std::array::from_fn(|i| (&raw const stored[i]).cast());
            let to = std::array::from_fn(|i| (&raw mut out[i]).cast());
            // SAFETY: the rows are elements of arrays that live on.
            unsafe { lanes.scatter(&to, lanes.gather::<false>(&from).0) };
            assert_eq!(out[..4], stored[..4]);
        }
        let Some(lanes) = Floating::detect() else {
            return;
        };
        for shift in 0..64 {
            // All ones, single bits of each digit and its sign, and something of everything.
            let word = |i: usize, j: usize| match i {
                0 => u64::MAX >> shift,
                1 => 1 << shift,
                2 => u64::MAX << shift,
                _ => 0x9e3779b97f4a7c15u64
                    .rotate_left(shift)
                    .wrapping_mul(2 * j as u64 + 1),
            };
            come_back::<FqBn254>(lanes, |i| std::array::from_fn(|j| word(i, j)));
            come_back::<FqBls12_381>(lanes, |i| std::array::from_fn(|j| word(i, j)));
        }
    }
}
