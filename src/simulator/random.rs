//! Reproducible pseudo-random numbers: splitmix64 and a hash based on it. Not suitable for secrets or
//! statistics.

/// The golden-ratio increment of splitmix64 (Steele, Lea, Flood 2014).
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A seeded sequence of numbers.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    position: u64,
}

impl Random {
    /// Starts the sequence determined by these parts, in this order.
    pub(crate) fn from_parts(parts: &[u64]) -> Random {
        Random { position: hash(parts) }
    }

    /// Returns the next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.position = self.position.wrapping_add(STEP);
        scramble(self.position)
    }

    /// Returns a number from 0 up to but excluding `bound`; 0 if the bound is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    /// Returns a number from `from` to `to`, both included; `from` if they are reversed.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from.saturating_add(self.below(to.saturating_sub(from).saturating_add(1)))
    }
}

/// Combines the parts into one number that depends on each of them and on their order.
pub(crate) fn hash(parts: &[u64]) -> u64 {
    parts.iter().fold(STEP, |sum, part| scramble(sum.wrapping_add(STEP) ^ scramble(*part)))
}

fn scramble(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_parts_give_equal_sequences() {
        let (mut one, mut two) = (Random::from_parts(&[1, 2]), Random::from_parts(&[1, 2]));
        assert_eq!([one.next(), one.next()], [two.next(), two.next()]);
    }

    #[test]
    fn the_order_of_the_parts_matters() {
        assert_ne!(hash(&[1, 2]), hash(&[2, 1]));
    }

    #[test]
    fn numbers_stay_within_their_bounds() {
        let mut random = Random::from_parts(&[7]);
        assert!((0..1000).all(|_| (5..=20).contains(&random.between(5, 20))));
        assert_eq!(random.below(0), 0);
    }
}
