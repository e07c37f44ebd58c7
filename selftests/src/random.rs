// SPDX-License-Identifier: GPL-2.0

//! Random numbers that a seed repeats.

/// splitmix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A seed that nobody chose, short enough to be typed again.
    pub fn any_seed() -> u64 {
        let time = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        Random::new(time.as_nanos() as u64).next_u64() >> 32
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        // The bias is far below what anybody could notice.
        (self.next_u64() % n as u64) as usize
    }

    /// True `n` times `of` so many.
    pub fn chance(&mut self, n: usize, of: usize) -> bool {
        self.below(of) < n
    }

    pub fn choose<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_numbers_and_another_has_others() {
        let of = |seed| {
            let mut random = Random::new(seed);
            [(); 8].map(|()| random.next_u64())
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        let mut random = Random::new(1234567);
        assert_eq!(random.next_u64(), 6457827717110365317);
        assert_eq!(random.next_u64(), 3203168211198807973);
    }

    #[test]
    fn a_chance_is_about_what_it_says() {
        let mut random = Random::new(7);
        let hits = (0..10_000).filter(|_| random.chance(1, 4)).count();
        assert!((2_300..2_700).contains(&hits), "{hits}");
        assert!((0..1000).all(|_| random.below(3) < 3));
        assert!(random.chance(1, 1) && !random.chance(0, 1));
    }
}
