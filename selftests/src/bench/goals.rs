// SPDX-License-Identifier: GPL-2.0

//! What this module sets out to be: the goals, in the order in which they are shown.

use super::contestant::Contestant::{self, *};
use super::contestant::{Base, Thp};
use super::goal::Bound::{self, *};
use super::goal::{Goal, Subject};
use super::record::Quantity::{self, *};
use super::record::{Crowd, Extent, Filled, Series};
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
        ratio((MapMuchAligned, P2pmem), (MapMuch, Tmpfs), Less),
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
        goals.push(ratio((aligned, P2pmemRam), (register, Hugetlb), Less));
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
        (Filled::AtOnce, More),
    ] {
        for (who, bound) in [(P2pmemRam, bound), (Kernel, Any), (Tmpfs, Any)] {
            let by = |threads| AllocateBy(filled, threads);
            goals.push(within(who, by(1), by(2), bound));
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
    for extent in EXTENTS {
        let (map, reserve) = (MapLarge(extent), ReserveAgain(extent));
        goals.push(within(P2pmem16G, map, MapMuchAligned, AtMost(1.0)));
        // The first has something to do for each page of 4 KiB.
        goals.push(within(
            P2pmem16G,
            reserve,
            ReserveFirst(extent),
            AtMost(0.1),
        ));
    }
    goals
}

/// What is asked to be the same whatever `transparent_hugepage/enabled` says.
pub fn settings() -> Vec<(Quantity, Base)> {
    let mut series = BUSY.map(|quantity| (quantity, Base::P2pmemRam)).to_vec();
    let mut more = vec![Reuse, Unpin, UnpinMuch];
    more.extend(CROWDS.map(AllocateAmong));
    more.extend([1, 2].map(|threads| AllocateBy(Filled::ByTouch, threads)));
    more.extend(TRANSFERS.map(Read));
    series.extend(more.into_iter().map(|quantity| (quantity, Base::P2pmemRam)));
    for base in [Base::P2pmem16G, Base::P2pmem64G] {
        series.extend([Bind, Unbind, BindMemory].map(|quantity| (quantity, base)));
    }
    for extent in EXTENTS {
        series.extend([MapLarge(extent), ReserveAgain(extent)].map(|of| (of, Base::P2pmem16G)));
    }
    series
}

const EXTENTS: [Extent; 2] = [Extent::Part, Extent::Whole];

/// Those of them that are quick and wait for nothing.
const BUSY: [Quantity; 7] = [
    MapMuch,
    MapMuchAligned,
    MapPage,
    RegisterVerbs,
    RegisterVerbsAligned,
    RegisterUring,
    RegisterUringAligned,
];

/// Under that setting as under `always`, as nearly as samples of the same vary: they do more where
/// something is waited for, and where much else is done between them.
pub fn same_under(thp: Thp, (quantity, base): (Quantity, Base)) -> Goal {
    let bound = match quantity {
        BindMemory => 1.02,
        _ if BUSY.contains(&quantity) => 1.1,
        _ => 1.25,
    };
    between(
        quantity,
        Under(thp, base),
        Under(Thp::Always, base),
        AtMost(bound),
    )
}

/// That of all of them.
pub fn same_under_all() -> Vec<Goal> {
    let series = settings().into_iter();
    series
        .flat_map(|series| [Thp::Never, Thp::Madvise].map(|thp| same_under(thp, series)))
        .collect()
}
