// SPDX-License-Identifier: GPL-2.0

//! Contents that tell whose memory it is, and which word of it.

/// A sequence of 64-bit words that differs from that of every other seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern(pub u64);

impl Pattern {
    /// The word at position `index`; consecutive words have nothing in common,
    /// so none of this is in the binary or on a stack by chance.
    pub fn word(self, index: usize) -> u64 {
        let mut x = self
            .0
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(index as u64 + 1)
            .wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^= x >> 29;
        // Odd, so never the zero that freshly mapped memory must show.
        x | 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_never_zero_and_differ_by_seed_and_place() {
        let words: Vec<u64> = (0..4096).map(|i| Pattern(1).word(i)).collect();
        let mut unique = words.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), words.len());
        assert!(words.iter().all(|&w| w != 0));
        assert!((0..4096).all(|i| Pattern(1).word(i) != Pattern(2).word(i)));
    }
}
