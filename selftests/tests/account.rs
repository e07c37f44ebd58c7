// SPDX-License-Identifier: GPL-2.0

//! The module's own `src/protocol/account.rs`, held against a model that keeps a list of pages, and
//! the times at which looks were asked for, begun and ended.

#[path = "../../src/protocol/account.rs"]
#[allow(dead_code)]
mod account;

use account::{Account, Attempt, Denied, Share};
use proptest::prelude::*;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Place {
    Available,
    Mapped,
    /// Of the mapping of this number.
    Retired(usize),
    Draining(usize),
    Returning,
}

/// What happens to up to so many pages, as many as there are.
#[derive(Clone, Debug)]
enum Step {
    /// One of [`TASKS`] tries to get pages, or tries again to get what it waits for.
    Reserve(usize, usize),
    Refuse,
    Retire(usize),
    BeginLook,
    EndLook,
    /// Of one mapping so many pages are found free, and of the others so many pinned.
    Look(prop::sample::Index, usize, usize),
    Free(usize),
}

const TASKS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let pages = || 0usize..12;
    prop_oneof![
        8 => (0..TASKS, pages()).prop_map(|(task, pages)| Step::Reserve(task, pages)),
        1 => Just(Step::Refuse),
        4 => pages().prop_map(Step::Retire),
        2 => Just(Step::BeginLook),
        2 => Just(Step::EndLook),
        6 => (any::<prop::sample::Index>(), pages(), pages())
            .prop_map(|(share, free, pinned)| Step::Look(share, free, pinned)),
        3 => pages().prop_map(Step::Free),
    ]
}

/// Every page by itself.
struct Naive {
    pages: Vec<Place>,
    refused: bool,
    now: usize,
    /// When each look began, and whether it has ended.
    looks: Vec<(usize, bool)>,
    /// When the last look was asked for.
    asked: Option<usize>,
}

/// The answers to an attempt, without the numbers.
#[derive(PartialEq, Debug)]
enum Answer {
    Done,
    NotYet,
    /// Wait for a look that was asked for at this time.
    Unseen(usize),
    Denied(Denied),
}

impl Naive {
    fn count(&self, is_meant: impl Fn(Place) -> bool) -> usize {
        self.pages.iter().filter(|&&page| is_meant(page)).count()
    }

    /// Moves up to `most` pages; returns how many.
    fn shift(&mut self, from: impl Fn(Place) -> bool, to: Place, most: usize) -> usize {
        let pages = self.pages.iter_mut().filter(|page| from(**page));
        pages.take(most).map(|page| *page = to).count()
    }

    /// `asked` is when the task asked for the look that it waits for.
    fn reserve(&mut self, pages: usize, asked: Option<usize>) -> Answer {
        use Place::*;
        let answered =
            |asked| (self.looks.iter()).any(|&(begun, has_ended)| begun > asked && has_ended);
        let is_waiting = asked.is_some_and(|asked| !answered(asked));
        let sure = self.count(|page| matches!(page, Available | Returning));
        let hoped_for = self.count(|page| match page {
            Available | Returning | Retired(_) => true,
            // A fresh look has seen that.
            Draining(_) => asked.is_none(),
            Mapped => false,
        });
        if self.refused {
            Answer::Denied(Denied::Refused)
        } else if self.count(|page| page == Available) >= pages {
            self.shift(|page| page == Available, Mapped, pages);
            Answer::Done
        } else if sure >= pages {
            Answer::NotYet
        } else if let (true, Some(asked)) = (is_waiting, asked) {
            Answer::Unseen(asked)
        } else if hoped_for < pages {
            Answer::Denied(Denied::Lacking)
        } else {
            self.asked = Some(self.now);
            Answer::Unseen(self.now)
        }
    }

    fn is_look_due(&self) -> bool {
        let begun = self.looks.last().map(|&(begun, _)| begun);
        self.asked.is_some() && self.asked > begun
    }
}

proptest! {
    #[test]
    fn every_page_is_where_the_steps_have_moved_it(
        size in 0usize..24,
        steps in prop::collection::vec(step(), 0..100),
    ) {
        use Place::*;
        let mut account = Account::new(size);
        let mut naive = Naive {
            pages: vec![Available; size],
            refused: false,
            now: 0,
            looks: Vec::new(),
            asked: None,
        };
        let mut shares: Vec<Share> = Vec::new();
        // What each task waits for: pages, a look, and when the naive model asked for that look.
        let mut waits: [Option<(usize, u64, usize)>; TASKS] = [None; TASKS];

        for step in steps {
            naive.now += 1;
            match step {
                Step::Reserve(task, pages) => {
                    let wait = waits[task].take();
                    let pages = wait.map_or(pages, |(pages, ..)| pages);
                    let attempt = account.reserve(pages, wait.map(|(_, number, _)| number));
                    let answer = naive.reserve(pages, wait.map(|(.., asked)| asked));
                    match (attempt, answer) {
                        (Ok(Attempt::Done), Answer::Done) => {}
                        (Ok(Attempt::NotYet), Answer::NotYet) => {}
                        (Ok(Attempt::Unseen(number)), Answer::Unseen(asked)) => {
                            waits[task] = Some((pages, number, asked));
                        }
                        (Err(denied), Answer::Denied(right)) => prop_assert_eq!(denied, right),
                        (attempt, answer) => prop_assert!(false, "{attempt:?} for {answer:?}"),
                    }
                }
                Step::Refuse => {
                    account.refuse();
                    naive.refused = true;
                }
                Step::Retire(most) => {
                    let pages = naive.shift(|page| page == Mapped, Retired(shares.len()), most);
                    account.retire(pages);
                    shares.push(Share::new(pages));
                }
                Step::BeginLook => {
                    account.begin_look();
                    naive.looks.push((naive.now, false));
                }
                Step::EndLook => {
                    account.end_look();
                    naive.looks.iter_mut().for_each(|(_, has_ended)| *has_ended = true);
                }
                Step::Look(index, free, pinned) if !shares.is_empty() => {
                    let index = index.index(shares.len());
                    let is_unseen = |page| page == Retired(index) || page == Draining(index);
                    prop_assert_eq!(shares[index].len(), naive.count(is_unseen));
                    let free = naive.shift(is_unseen, Returning, free);
                    naive.shift(|page| page == Retired(index), Draining(index), pinned);
                    naive.shift(|page| page == Retired(index), Available, size);
                    // With what a look before has found pinned.
                    let pinned = naive.count(|page| page == Draining(index));
                    account.looked(&mut shares[index], free, pinned);
                }
                Step::Look(..) => {}
                Step::Free(most) => {
                    account.free(naive.shift(|page| page == Returning, Available, most));
                }
            }
            prop_assert_eq!(account.size(), size);
            prop_assert_eq!(account.available(), naive.count(|page| page == Available));
            prop_assert_eq!(account.draining(), naive.count(|page| matches!(page, Draining(_))));
            prop_assert_eq!(account.is_whole(), naive.count(|page| page == Available) == size);
            prop_assert_eq!(account.is_look_due(), naive.is_look_due());
        }
    }
}
