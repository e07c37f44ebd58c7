// SPDX-License-Identifier: GPL-2.0

//! The module's own `src/protocol/account.rs`, held against a model that keeps a list of pages.

#[path = "../../src/protocol/account.rs"]
#[allow(dead_code)]
mod account;

use account::{Account, Denied};
use proptest::prelude::*;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Place {
    Available,
    Mapped,
    Returning,
    Draining,
}

/// What happens to up to so many pages, as many as there are.
#[derive(Clone, Debug)]
enum Step {
    Reserve(usize),
    Refuse,
    Move(Place, Place, usize),
}

fn step() -> impl Strategy<Value = Step> {
    use Place::*;
    let moves = vec![
        (Mapped, Returning),
        (Returning, Draining),
        (Returning, Available),
        (Draining, Available),
    ];
    prop_oneof![
        8 => (0usize..12).prop_map(Step::Reserve),
        1 => Just(Step::Refuse),
        16 => (prop::sample::select(moves), 0usize..12)
            .prop_map(|((from, to), pages)| Step::Move(from, to, pages)),
    ]
}

/// Every page by itself.
struct Naive {
    pages: Vec<Place>,
    refused: bool,
}

impl Naive {
    fn count(&self, place: Place) -> usize {
        self.pages.iter().filter(|&&page| page == place).count()
    }

    /// Moves up to `most` pages; returns how many.
    fn shift(&mut self, from: Place, to: Place, most: usize) -> usize {
        let pages = self.pages.iter_mut().filter(|page| **page == from);
        pages.take(most).map(|page| *page = to).count()
    }

    fn reserve(&mut self, pages: usize) -> Result<(), Denied> {
        let (available, returning) = (self.count(Place::Available), self.count(Place::Returning));
        if self.refused {
            return Err(Denied::Refused);
        }
        if pages > available + returning {
            return Err(Denied::Lacking);
        }
        if pages > available {
            return Err(Denied::NotYet);
        }
        self.shift(Place::Available, Place::Mapped, pages);
        Ok(())
    }
}

proptest! {
    #[test]
    fn every_page_is_where_the_steps_have_moved_it(
        size in 0usize..24,
        steps in prop::collection::vec(step(), 0..100),
    ) {
        let mut account = Account::new(size);
        let mut naive = Naive { pages: vec![Place::Available; size], refused: false };

        for step in steps {
            match step {
                Step::Reserve(pages) => prop_assert_eq!(account.reserve(pages), naive.reserve(pages)),
                Step::Refuse => {
                    account.refuse();
                    naive.refused = true;
                }
                Step::Move(from, to, most) => {
                    let pages = naive.shift(from, to, most);
                    match to {
                        Place::Returning => account.retire(pages),
                        Place::Draining => account.drain(pages),
                        _ => account.free(pages, from == Place::Draining),
                    }
                }
            }
            prop_assert_eq!(account.size(), size);
            prop_assert_eq!(account.available(), naive.count(Place::Available));
            prop_assert_eq!(account.draining(), naive.count(Place::Draining));
            prop_assert_eq!(account.is_whole(), naive.pages.iter().all(|&page| page == Place::Available));
        }
    }
}
