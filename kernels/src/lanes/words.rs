//! Eight 64-bit words side by side, with the 52-bit multiply-add that Intel calls IFMA.
//!
//! [`Words`] is the seam between arithmetic and silicon: [`Avx512`] is the silicon, [`Portable`]
//! says in plain Rust what it does, for tests only. All that stands above is written once over the
//! trait, so it is tested on every machine, those without the instructions too.
//!
//! A value of an implementing type is a token: who holds an [`Avx512`] knows that the processor has
//! the instructions, because [`Avx512::detect`] is the only way to one. The methods are inlined
//! into a caller that has the features enabled; called from elsewhere they are right and slow.

#[cfg(target_arch = "x86_64")]
pub(super) use avx512::Avx512;

/// Eight 64-bit words and what can be done with them. Arithmetic wraps.
pub(crate) trait Words: Copy + Send + Sync + 'static {
    /// Eight words.
    type V: Copy;

    fn splat(self, x: u64) -> Self::V;
    fn pack(self, x: [u64; 8]) -> Self::V;
    fn unpack(self, x: Self::V) -> [u64; 8];

    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn and(self, a: Self::V, b: Self::V) -> Self::V;
    fn or(self, a: Self::V, b: Self::V) -> Self::V;
    /// Not a, and b.
    fn and_not(self, a: Self::V, b: Self::V) -> Self::V;
    /// x << bits, bits < 64.
    fn shl(self, x: Self::V, bits: u32) -> Self::V;
    /// x >> bits, bits < 64, zeros coming in.
    fn shr(self, x: Self::V, bits: u32) -> Self::V;
    /// x >> bits, bits < 64, the sign coming in.
    fn sar(self, x: Self::V, bits: u32) -> Self::V;
    /// acc + (low 52 bits of (low 52 bits of a) * (low 52 bits of b)).
    fn madd_low(self, acc: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// acc + (bits 52 to 103 of (low 52 bits of a) * (low 52 bits of b)).
    fn madd_high(self, acc: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// Lane i of the first where bit i of the mask is clear, of the second where it is set.
    fn select(self, mask: u8, clear: Self::V, set: Self::V) -> Self::V;
    /// A bit for each lane that is zero.
    fn zeros(self, x: Self::V) -> u8;

    /// Words 0 to 3 of eight rows, turned: lane i of result j is word j of row i.
    ///
    /// # Safety
    /// Each pointer is valid for a read of four words; it need not be aligned.
    unsafe fn gather(self, rows: &[*const u64; 8]) -> [Self::V; 4];

    /// The reverse of [`Words::gather`], row by row in order.
    ///
    /// # Safety
    /// Each pointer is valid for a write of four words; it need not be aligned.
    unsafe fn scatter(self, rows: &[*mut u64; 8], words: [Self::V; 4]);
}

/// Plain Rust: the specification of [`Words`]. Calls instead of inlined code: nobody waits for it but
/// the compiler.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

#[cfg(test)]
const MASK_52: u64 = (1 << 52) - 1;

#[cfg(test)]
impl Words for Portable {
    type V = [u64; 8];

    #[inline(never)]
    fn splat(self, x: u64) -> [u64; 8] {
        [x; 8]
    }

    #[inline(never)]
    fn pack(self, x: [u64; 8]) -> [u64; 8] {
        x
    }

    #[inline(never)]
    fn unpack(self, x: [u64; 8]) -> [u64; 8] {
        x
    }

    #[inline(never)]
    fn add(self, a: [u64; 8], b: [u64; 8]) -> [u64; 8] {
        std::array::from_fn(|i| a[i].wrapping_add(b[i]))
    }

    #[inline(never)]
    fn sub(self, a: [u64; 8], b: [u64; 8]) -> [u64; 8] {
        std::array::from_fn(|i| a[i].wrapping_sub(b[i]))
    }

    #[inline(never)]
    fn and(self, a: [u64; 8], b: [u64; 8]) -> [u64; 8] {
        std::array::from_fn(|i| a[i] & b[i])
    }

    #[inline(never)]
    fn or(self, a: [u64; 8], b: [u64; 8]) -> [u64; 8] {
        std::array::from_fn(|i| a[i] | b[i])
    }

    #[inline(never)]
    fn and_not(self, a: [u64; 8], b: [u64; 8]) -> [u64; 8] {
        std::array::from_fn(|i| !a[i] & b[i])
    }

    #[inline(never)]
    fn shl(self, x: [u64; 8], bits: u32) -> [u64; 8] {
        x.map(|x| x << bits)
    }

    #[inline(never)]
    fn shr(self, x: [u64; 8], bits: u32) -> [u64; 8] {
        x.map(|x| x >> bits)
    }

    #[inline(never)]
    fn sar(self, x: [u64; 8], bits: u32) -> [u64; 8] {
        x.map(|x| (x as i64 >> bits) as u64)
    }

    #[inline(never)]
    fn madd_low(self, acc: [u64; 8], a: [u64; 8], b: [u64; 8]) -> [u64; 8] {
        std::array::from_fn(|i| {
            let product = u128::from(a[i] & MASK_52) * u128::from(b[i] & MASK_52);
            acc[i].wrapping_add(product as u64 & MASK_52)
        })
    }

    #[inline(never)]
    fn madd_high(self, acc: [u64; 8], a: [u64; 8], b: [u64; 8]) -> [u64; 8] {
        std::array::from_fn(|i| {
            let product = u128::from(a[i] & MASK_52) * u128::from(b[i] & MASK_52);
            acc[i].wrapping_add((product >> 52) as u64)
        })
    }

    #[inline(never)]
    fn select(self, mask: u8, clear: [u64; 8], set: [u64; 8]) -> [u64; 8] {
        std::array::from_fn(|i| if mask >> i & 1 == 1 { set[i] } else { clear[i] })
    }

    #[inline(never)]
    fn zeros(self, x: [u64; 8]) -> u8 {
        (0..8).fold(0, |mask, i| mask | u8::from(x[i] == 0) << i)
    }

    #[inline(never)]
    unsafe fn gather(self, rows: &[*const u64; 8]) -> [[u64; 8]; 4] {
        // SAFETY: the caller vouches for four words at each pointer.
        let rows = rows.map(|row| unsafe { row.cast::<[u64; 4]>().read_unaligned() });
        std::array::from_fn(|j| std::array::from_fn(|i| u64::from_le(rows[i][j])))
    }

    #[inline(never)]
    unsafe fn scatter(self, rows: &[*mut u64; 8], words: [[u64; 8]; 4]) {
        for (i, row) in rows.iter().enumerate() {
            let row_words: [u64; 4] = std::array::from_fn(|j| words[j][i].to_le());
            // SAFETY: the caller vouches for four words at each pointer.
            unsafe { row.cast::<[u64; 4]>().write_unaligned(row_words) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::Words;

    /// AVX-512 with IFMA: Intel from Cannon Lake and Ice Lake on, AMD from Zen 4 on.
    #[derive(Clone, Copy, Debug)]
    pub struct Avx512(());

    impl Avx512 {
        /// The token, where processor and operating system have what it takes.
        pub(crate) fn detect() -> Option<Self> {
            let has = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512ifma");
            has.then_some(Self(()))
        }
    }

    // SAFETY of every block below but the last two: the token says that the processor has the
    // instructions, and none of them touches memory.
    impl Words for Avx512 {
        type V = __m512i;

        #[inline(always)]
        fn splat(self, x: u64) -> __m512i {
            // SAFETY: see above.
            unsafe { _mm512_set1_epi64(x as i64) }
        }

        #[inline(always)]
        fn pack(self, x: [u64; 8]) -> __m512i {
            // SAFETY: see above; the array has the register's size, and any bits are a value.
            unsafe { std::mem::transmute(x) }
        }

        #[inline(always)]
        fn unpack(self, x: __m512i) -> [u64; 8] {
            // SAFETY: as in `pack`.
            unsafe { std::mem::transmute(x) }
        }

        #[inline(always)]
        fn add(self, a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: see above.
            unsafe { _mm512_add_epi64(a, b) }
        }

        #[inline(always)]
        fn sub(self, a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: see above.
            unsafe { _mm512_sub_epi64(a, b) }
        }

        #[inline(always)]
        fn and(self, a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: see above.
            unsafe { _mm512_and_si512(a, b) }
        }

        #[inline(always)]
        fn or(self, a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: see above.
            unsafe { _mm512_or_si512(a, b) }
        }

        #[inline(always)]
        fn and_not(self, a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: see above.
            unsafe { _mm512_andnot_si512(a, b) }
        }

        #[inline(always)]
        fn shl(self, x: __m512i, bits: u32) -> __m512i {
            // SAFETY: see above. A constant count becomes an immediate.
            unsafe { _mm512_sllv_epi64(x, _mm512_set1_epi64(i64::from(bits))) }
        }

        #[inline(always)]
        fn shr(self, x: __m512i, bits: u32) -> __m512i {
            // SAFETY: see above.
            unsafe { _mm512_srlv_epi64(x, _mm512_set1_epi64(i64::from(bits))) }
        }

        #[inline(always)]
        fn sar(self, x: __m512i, bits: u32) -> __m512i {
            // SAFETY: see above.
            unsafe { _mm512_srav_epi64(x, _mm512_set1_epi64(i64::from(bits))) }
        }

        #[inline(always)]
        fn madd_low(self, acc: __m512i, a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: see above.
            unsafe { _mm512_madd52lo_epu64(acc, a, b) }
        }

        #[inline(always)]
        fn madd_high(self, acc: __m512i, a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: see above.
            unsafe { _mm512_madd52hi_epu64(acc, a, b) }
        }

        #[inline(always)]
        fn select(self, mask: u8, clear: __m512i, set: __m512i) -> __m512i {
            // SAFETY: see above.
            unsafe { _mm512_mask_blend_epi64(mask, clear, set) }
        }

        #[inline(always)]
        fn zeros(self, x: __m512i) -> u8 {
            // SAFETY: see above.
            unsafe { _mm512_testn_epi64_mask(x, x) }
        }

        #[inline(always)]
        unsafe fn gather(self, rows: &[*const u64; 8]) -> [__m512i; 4] {
            // SAFETY: the caller vouches for 32 bytes at each pointer; the loads need no
            // alignment.
            unsafe {
                // Rows i and i + 4 in one register.
                let mut pairs = [_mm512_setzero_si512(); 4];
                for i in 0..4 {
                    let low = _mm256_loadu_si256(rows[i].cast());
                    let high = _mm256_loadu_si256(rows[i + 4].cast());
                    pairs[i] = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
                }
                let [r0, r1, r2, r3] = pairs;
                // Each of the 128-bit quarters holds words 0 1 or 2 3 of one row.
                let a = _mm512_unpacklo_epi64(r0, r1);
                let b = _mm512_unpackhi_epi64(r0, r1);
                let c = _mm512_unpacklo_epi64(r2, r3);
                let d = _mm512_unpackhi_epi64(r2, r3);
                // Of a: quarters (word 0 of rows 0 1), (word 2 of 0 1), (word 0 of 4 5), (2 of 4 5).
                let even = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
                let odd = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
                [
                    _mm512_permutex2var_epi64(a, even, c),
                    _mm512_permutex2var_epi64(b, even, d),
                    _mm512_permutex2var_epi64(a, odd, c),
                    _mm512_permutex2var_epi64(b, odd, d),
                ]
            }
        }

        #[inline(always)]
        unsafe fn scatter(self, rows: &[*mut u64; 8], words: [__m512i; 4]) {
            // SAFETY: the caller vouches for 32 bytes at each pointer; the stores need no
            // alignment.
            unsafe {
                let [w0, w1, w2, w3] = words;
                let a = _mm512_unpacklo_epi64(w0, w1);
                let b = _mm512_unpackhi_epi64(w0, w1);
                let c = _mm512_unpacklo_epi64(w2, w3);
                let d = _mm512_unpackhi_epi64(w2, w3);
                // Quarter i of a and c: words 0 1 and 2 3 of row 2 i; of b and d: of row 2 i + 1.
                let low = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
                let high = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
                let both = [
                    _mm512_permutex2var_epi64(a, low, c),
                    _mm512_permutex2var_epi64(b, low, d),
                    _mm512_permutex2var_epi64(a, high, c),
                    _mm512_permutex2var_epi64(b, high, d),
                ];
                for i in 0..4 {
                    _mm256_storeu_si256(rows[i].cast(), _mm512_castsi512_si256(both[i]));
                    let high = _mm512_extracti64x4_epi64::<1>(both[i]);
                    _mm256_storeu_si256(rows[i + 4].cast(), high);
                }
            }
        }
    }
}
