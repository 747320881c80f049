//! Numbers that look random and are the same for the same seed.
//!
//! SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): one addition and three xor-shift-multiplies a
//! number. A simulation needs neither secrecy nor a long period, only that a seed says everything.

/// A source of such numbers.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// All that follows depends on the seed alone.
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// Another source, for another purpose: what one draws does not move what the other gives.
    #[must_use]
    pub fn fork(&mut self) -> Random {
        Random { state: self.bits() }
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// At least 0, below 1.
    pub fn fraction(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// At least `from`, below `to`; `from` if there is nothing between.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        // The bias is the span over 2^64: nothing that a simulation can see.
        let span = u128::from(to.saturating_sub(from));
        from + ((u128::from(self.bits()) * span) >> 64) as u64
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.fraction() < probability
    }

    /// Normal with mean 0 and variance 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.fraction()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.fraction()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sequence() {
        // The first outputs of the reference implementation for the seed 1234567.
        let mut random = Random::new(1_234_567);
        let outputs = [random.bits(), random.bits(), random.bits()];
        assert_eq!(
            outputs,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn means_are_as_asked() {
        let mut random = Random::new(1);
        let normal: f64 = (0..20_000).map(|_| random.normal()).sum();
        assert!(normal.abs() < 3.0 * 20_000f64.sqrt(), "{normal}");
        let fraction: f64 = (0..20_000).map(|_| random.fraction()).sum();
        assert!((fraction / 10_000.0 - 1.0).abs() < 0.02, "{fraction}");
        assert!((0..1_000).all(|_| (3..7).contains(&random.between(3, 7))));
        assert_eq!(random.between(5, 5), 5);
    }
}
