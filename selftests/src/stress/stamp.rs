// SPDX-License-Identifier: GPL-2.0

//! Words that say who wrote them, when, and where: a word in the wrong place tells whose it is.

use std::fmt;

const MAGIC: u64 = 0xa5;
const GENERATION_BITS: u32 = 28;
const INDEX_BITS: u32 = 20;

/// Number of the words that one mapping may have.
pub const MAX_WORDS: usize = 1 << INDEX_BITS;

/// What one owner writes into one mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The owner's number, less than 256.
    pub owner: usize,
    /// How many mappings it has had before.
    pub generation: u64,
}

impl Stamp {
    /// The word at position `index` of the mapping; never zero.
    pub fn word(self, index: usize) -> u64 {
        debug_assert!(index < MAX_WORDS && self.owner < 256);
        let generation = self.generation & ((1 << GENERATION_BITS) - 1);
        (Self::tag(self.owner) << (GENERATION_BITS + INDEX_BITS))
            | (generation << INDEX_BITS)
            | index as u64
    }

    /// Whether this is a word of any mapping of `owner`.
    pub fn is_of(word: u64, owner: usize) -> bool {
        word >> (GENERATION_BITS + INDEX_BITS) == Self::tag(owner)
    }

    fn tag(owner: usize) -> u64 {
        (MAGIC << 8) | owner as u64
    }
}

/// A word, explained.
pub struct Word(pub u64);

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let above = self.0 >> (GENERATION_BITS + INDEX_BITS);
        match self.0 {
            0 => write!(f, "zero"),
            _ if above >> 8 != MAGIC => write!(f, "foreign {:#018x}", self.0),
            word => write!(
                f,
                "word {} of mapping {} of owner {}",
                word & ((1 << INDEX_BITS) - 1),
                (word >> INDEX_BITS) & ((1 << GENERATION_BITS) - 1),
                above & 0xff
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_says_who_wrote_it_when_and_where() {
        let stamp = Stamp {
            owner: 3,
            generation: 77,
        };
        let word = stamp.word(9);
        assert_eq!(Word(word).to_string(), "word 9 of mapping 77 of owner 3");
        assert!(Stamp::is_of(word, 3) && !Stamp::is_of(word, 2));
        assert_eq!(Word(0).to_string(), "zero");
        assert_eq!(Word(5).to_string(), "foreign 0x0000000000000005");
    }

    #[test]
    fn words_differ_by_owner_generation_and_place() {
        let word = |owner, generation, index| Stamp { owner, generation }.word(index);
        let words = [
            word(0, 0, 0),
            word(1, 0, 0),
            word(0, 1, 0),
            word(0, 0, 1),
            word(255, (1 << GENERATION_BITS) - 1, MAX_WORDS - 1),
        ];
        for (i, a) in words.iter().enumerate() {
            assert_ne!(*a, 0);
            assert!(words[..i].iter().all(|b| a != b));
        }
    }
}
