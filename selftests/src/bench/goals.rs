// SPDX-License-Identifier: GPL-2.0

//! What this module sets out to be: the goals, in the order in which they are shown.

use super::contestant::Contestant::{self, *};
use super::goal::Bound::{self, *};
use super::goal::{Goal, Series, Subject};
use super::record::Quantity::{self, *};
use super::record::{Crowd, Filled, Thp};
use super::works::{CROWDS, TRANSFERS};

fn ratio(over: Series, under: Series, bound: Bound) -> Goal {
    Goal {
        subject: Subject::Ratio(over, under),
        bound,
    }
}

/// Of the same work.
fn between(quantity: Quantity, over: Contestant, under: Contestant, bound: Bound) -> Goal {
    ratio((quantity, over), (quantity, under), bound)
}

/// Of the same contestant.
fn within(who: Contestant, over: Quantity, under: Quantity, bound: Bound) -> Goal {
    ratio((over, who), (under, who), bound)
}

pub fn goals() -> Vec<Goal> {
    let mut goals = vec![
        between(MapMuch, Kernel, P2pmem, AtLeast(20.0)),
        between(MapMuch, P2pmem, Tmpfs, AtMost(1.5)),
        // How much of that is due to addresses that are no multiples of 2 MiB.
        ratio((MapMuchAligned, P2pmem), (MapMuch, Tmpfs), Any),
        between(MapPage, P2pmem, Kernel, AtMost(1.0)),
    ];
    for who in [P2pmem, P2pmemRam] {
        goals.push(within(who, Reuse, Write, AtMost(1.2)));
    }
    goals.push(Goal {
        subject: Subject::Time((UnpinWorst, P2pmemRam)),
        bound: AtMost(20.0),
    });
    // It has to look at what drains, not at the pool: one is 256 times as large.
    goals.push(between(Unpin, P2pmem16G, P2pmemSmall, AtMost(1.5)));
    goals.push(within(P2pmemRam, UnpinMuch, Unpin, AtMost(32.0)));
    for (register, aligned) in [
        (RegisterVerbs, RegisterVerbsAligned),
        (RegisterUring, RegisterUringAligned),
    ] {
        for who in [P2pmem, P2pmemRam] {
            goals.push(between(register, who, Hugetlb, AtMost(1.1)));
            goals.push(between(register, Anonymous, who, AtLeast(5.0)));
        }
        goals.push(ratio((aligned, P2pmemRam), (register, Hugetlb), Any));
    }
    for (who, bound) in [(P2pmemRam, AtMost(2.0)), (Kernel, Any)] {
        for crowd in &CROWDS[1..] {
            let (over, under) = (AllocateAmong(*crowd), AllocateAmong(Crowd::Pages(0)));
            goals.push(within(who, over, under, bound));
        }
    }
    for (filled, bound) in [
        (Filled::ByTouch, AtLeast(1.6)),
        // MAP_POPULATE has the lock of the whole process that the other thread's mmap waits for.
        (Filled::AtOnce, Any),
    ] {
        for (who, bound) in [(P2pmemRam, bound), (Kernel, Any), (Tmpfs, Any)] {
            let by = |threads| AllocateBy(filled, threads);
            goals.push(within(who, by(1), by(2), bound));
        }
    }
    for thp in [Thp::Never, Thp::Madvise] {
        // As good as equal.
        let bound = AtMost(1.1);
        for of in [MapMuchThp, RegisterVerbsThp] {
            goals.push(within(P2pmemRam, of(thp), of(Thp::Always), bound));
        }
    }
    // As good as equal.
    let bound = AtLeast(0.98);
    for transfer in TRANSFERS {
        goals.push(between(Read(transfer), Anonymous, P2pmemRam, bound));
        goals.push(between(Read(transfer), Kernel, P2pmem, bound));
    }
    for who in [P2pmem8G, P2pmem16G, P2pmem64G] {
        for quantity in [Bind, Unbind] {
            goals.push(between(quantity, who, Kernel8G, AtMost(1.0)));
        }
        // Both need a page for 64 pages, and little else: as good as equal.
        goals.push(between(BindMemory, who, Kernel8G, AtMost(1.02)));
    }
    goals.push(within(P2pmem16G, MapWhole, MapMuchAligned, AtMost(1.0)));
    // The first has something to do for each page of 4 KiB.
    goals.push(within(P2pmem16G, ReserveAgain, ReserveFirst, AtMost(0.1)));
    goals
}
