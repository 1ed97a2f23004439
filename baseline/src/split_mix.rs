//! SplitMix64: a small, fast and deterministic source of numbers.
//!
//! Not here: anything unguessable. Invariant: a seed gives the same numbers on every machine.

/// The generator; its state is one word.
#[derive(Debug, Clone)]
pub struct SplitMix(u64);

impl SplitMix {
    /// A generator whose numbers depend on `seed` alone.
    pub fn new(seed: u64) -> Self {
        SplitMix(seed)
    }

    /// All 64 bits.
    #[inline]
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`, which is above 0. The bias is below one in 2³² for every bound used here.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_reference() {
        let mut numbers = SplitMix::new(1_234_567);
        let first = [(); 3].map(|()| numbers.draw());
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn a_bound_holds_and_is_reached() {
        let mut numbers = SplitMix::new(7);
        let mut seen = [false; 13];
        for _ in 0..10_000 {
            seen[numbers.below(13) as usize] = true;
        }
        assert_eq!(seen, [true; 13]);
    }
}
