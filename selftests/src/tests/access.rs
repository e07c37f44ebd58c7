// SPDX-License-Identifier: GPL-2.0

//! Access: who may do what with the files, and what files and log lines tell.

use super::{LEN, OURS};
use crate::child::{as_nobody, NOBODY};
use crate::device::{Bound, CMB, DISK, PLAIN, SMALL};
use crate::helper::{After, Helper, Pin};
use crate::kmsg::Log;
use crate::mapping::{Request, PAGE, READ};
use anyhow::{ensure, Context, Result};
use nix::errno::Errno;
use nix::unistd::{chown, Gid};
use std::fs::{self, File, Permissions};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;

const NUMBERS: [&str; 4] = ["size", "available", "published", "draining"];

/// Ways to open a file: for reading, for writing.
const WAYS: [(bool, bool); 3] = [(true, false), (false, true), (true, true)];

fn files() -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(PLAIN.path("p2pmem"))? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}

/// There is nothing but what is documented.
pub fn the_directory_has_the_documented_files() -> Result<()> {
    let _bound = Bound::new(PLAIN)?;
    let names: Vec<_> = files()?
        .into_iter()
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect();
    let mut documented = [NUMBERS.as_slice(), &["allocate"]].concat();
    documented.sort_unstable();
    assert_eq!(names, documented);
    Ok(())
}

fn is_number(text: &[u8]) -> bool {
    matches!(text, [digits @ .., b'\n'] if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
}

/// Whatever is called on an open file gives a number, or nothing.
fn check_calls(file: &File, numbers: bool) -> Result<()> {
    let mut bytes = [0xee; 64];
    for offset in [0, 1, 4, 4095, 1 << 20, 1 << 40, i64::MAX as u64 - 64] {
        let read = file.read_at(&mut bytes, offset).unwrap_or(0);
        let text = &bytes[..read];
        ensure!(
            read == 0 || numbers && (offset > 0 || is_number(text)),
            "reads {text:x?} at {offset:#x}"
        );
        ensure!(text.iter().all(|&b| b.is_ascii_digit() || b == b'\n'));
        let written = file.write_at(&[b'1'; 64], offset).unwrap_or(0);
        ensure!(written == 0, "{written} bytes written at {offset:#x}");
    }
    for request in [0x5401, 0x5413, 0x8004_6601, 0xc018_aa3f, 0xdead_beef] {
        // A copy of these bytes in and out is the most that an ioctl may do.
        let mut argument = [0xeeu8; 256];
        // SAFETY: there is no ioctl with a longer argument among these.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), request, argument.as_mut_ptr()) };
        ensure!(result < 0 && argument == [0xee; 256], "ioctl {request:#x}");
    }
    // As all of sysfs, it may say yes, but nothing comes of it.
    let len = file.metadata()?.len();
    _ = file.set_len(0);
    ensure!(file.metadata()?.len() == len, "it was truncated");
    if numbers {
        for prot in [READ, READ | libc::PROT_WRITE] {
            let result = Request {
                prot,
                ..Request::shared(PAGE)
            }
            .map(file);
            ensure!(result.is_err(), "it can be mapped");
        }
    }
    Ok(())
}

/// Of `allocate` not even a read; of the others what they are there to tell.
fn check_nobody() -> Result<()> {
    for path in files()? {
        let numbers = !path.ends_with("allocate");
        for (read, write) in WAYS {
            let allowed = numbers && !write;
            match File::options().read(read).write(write).open(&path) {
                Ok(file) => {
                    ensure!(allowed, "{} was opened", path.display());
                    check_calls(&file, true)?;
                }
                Err(error) => ensure!(
                    error.kind() == ErrorKind::PermissionDenied && !allowed,
                    "{}: {error}",
                    path.display()
                ),
            }
        }
        ensure!(fs::set_permissions(&path, Permissions::from_mode(0o666)).is_err());
        ensure!(fs::remove_file(&path).is_err());
    }
    ensure!(File::create(PLAIN.path("p2pmem/new")).is_err());
    for control in ["bind", "unbind", "new_id", "remove_id"] {
        let path = PathBuf::from("/sys/bus/pci/drivers/p2pmem").join(control);
        ensure!(File::options().write(true).open(path).is_err());
    }
    ensure!(PLAIN.set_override(Some("p2pmem")).is_err());
    Ok(())
}

pub fn nobody_gets_nothing_but_numbers() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    as_nobody(check_nobody)?;
    assert_eq!(bound.available()?, bound.size()?);
    Ok(())
}

/// The group of `allocate` may map, and may do nothing else that others may not.
pub fn the_group_gets_allocate_and_nothing_else() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let allocate = PLAIN.path("p2pmem/allocate");
    chown(&allocate, None, Some(Gid::from_raw(NOBODY)))?;
    as_nobody(|| {
        let file = bound.open()?;
        check_calls(&file, false)?;
        let mapping = Request::shared(LEN).map(&file)?;
        mapping.check_zero()?;
        mapping.fill(OURS);
        mapping.check(OURS)?;
        for name in NUMBERS {
            let path = PLAIN.path("p2pmem").join(name);
            ensure!(File::options().write(true).open(&path).is_err(), "{name}");
            ensure!(is_number(&fs::read(&path)?), "{name}");
        }
        ensure!(fs::set_permissions(&allocate, Permissions::from_mode(0o666)).is_err());
        ensure!(chown(&allocate, None, Some(Gid::from_raw(0))).is_err());
        ensure!(PLAIN.set_override(None).is_err());
        Ok(())
    })?;
    bound.wait_all_free()?;

    // What was given is taken back with the permission.
    chown(&allocate, None, Some(Gid::from_raw(0)))?;
    as_nobody(check_nobody)
}

/// Root is bound by what the files are, too.
pub fn calls_that_make_no_sense_get_errors() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    for path in files()? {
        let numbers = !path.ends_with("allocate");
        for (read, write) in WAYS {
            match File::options().read(read).write(write).open(&path) {
                Ok(file) => check_calls(&file, numbers)?,
                Err(error) => ensure!(numbers && write, "{}: {error}", path.display()),
            }
        }
    }
    assert_eq!(bound.available()?, bound.size()?);
    Ok(())
}

/// A mapping can always be read, and so needs a file that may be.
pub fn file_that_is_open_for_writing_only() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let file = File::options()
        .write(true)
        .open(PLAIN.path("p2pmem/allocate"))?;
    for prot in [
        READ,
        libc::PROT_WRITE,
        READ | libc::PROT_WRITE,
        libc::PROT_NONE,
    ] {
        let request = Request {
            prot,
            ..Request::shared(LEN)
        };
        assert_eq!(request.map(&file).map(drop), Err(Errno::EACCES));
    }
    assert_eq!(bound.available()?, bound.size()?);
    Ok(())
}

/// Each file holds one number and no more, whatever state the device is in.
pub fn files_hold_one_number_each() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let check = || -> Result<()> {
        for name in NUMBERS {
            let text = fs::read(PLAIN.path("p2pmem").join(name))?;
            ensure!(is_number(&text), "{name}: {text:x?}");
            // No kernel address is as small as the memory of a device.
            let number = PLAIN.number(&format!("p2pmem/{name}"))?;
            ensure!(number <= bound.size()? as u64, "{name}: {number}");
        }
        Ok(())
    };
    check()?;
    let holder = Helper::hold(PLAIN, LEN, OURS, Pin::Uring, After::StayMapped)?;
    check()?;
    holder.release()?;
    let holder = Helper::hold(PLAIN, LEN, OURS, Pin::Uring, After::Unmap)?;
    bound.wait_draining(LEN)?;
    check()?;
    holder.release()?;
    bound.wait_all_free()?;
    check()?;
    let parameter = fs::read_to_string("/sys/module/p2pmem/parameters/bar");
    ensure!(parameter.map_or(true, |text| text.trim_end().parse::<i32>().is_ok()));
    Ok(())
}

/// Every line that the module and the core on its behalf may write, after `p2pmem` and the
/// device's address. `N` stands for a decimal number, `E` for the name of an error, `A` for an
/// address or offset on the bus, and `T` for name and number of a task: root's log names who pins
/// what.
const SHAPES: &[&str] = &[
    "N MiB of controller memory buffer in BAR N for peer-to-peer DMA",
    "N MiB of memory in BAR N for peer-to-peer DMA",
    "unbind waits for N KiB still pinned, mapped by T other mappings: N",
    "bar=N is out of range, use 0 to 5",
    "the device has no BAR N name another with bar=",
    "bar=N is an I/O BAR, name a memory BAR",
    "no prefetchable memory BAR, name one with bar=",
    "BAR N is not assigned an address, see pci=realloc",
    "BAR N at A is not aligned to 2 MiB",
    "N KiB at offset A of BAR N hold no whole aligned 2 MiB",
    "the controller has no CMB (controller memory buffer)",
    "CMB of unsupported kind: not for data of commands (CMBSZ.RDS, WDS)",
    "CMB of unsupported kind: reserved value in CMBLOC or CMBSZ",
    "CMB of unsupported kind: the controller refuses its address (CMBSTS)",
    "cannot read BARs: E",
    "cannot enable the device: E",
    "cannot map the NVMe registers: E",
    "cannot enable the CMB: E",
    "cannot take over BAR N E",
    "cannot add the p2pmem directory: E",
    "cannot switch the controller memory buffer off: E",
    "enabling device (A -> A)",
    "probe with driver p2pmem failed with error N",
    "module verification failed: signature and/or required key missing - tainting kernel",
    "loading out-of-tree module taints kernel.",
];

fn word_fits(word: &str, shape: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match shape {
        "N" => digits(word.trim_end_matches([',', ':']).trim_start_matches('-')),
        "E" => word.strip_prefix('E').is_some_and(|name| {
            let mut bytes = name.bytes();
            bytes.all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        }),
        "A" | "(A" | "A)" => {
            // No BAR lies at 2^52 or above, where the kernel's own addresses are.
            let digits = word.trim_matches(['(', ')']).trim_start_matches("0x");
            u64::from_str_radix(digits, 16).is_ok_and(|address| address < 1 << 52)
        }
        "T" => word
            .trim_end_matches(',')
            .rsplit_once('[')
            .and_then(|(_, pid)| pid.strip_suffix(']'))
            .is_some_and(digits),
        _ => match shape.strip_suffix('N') {
            Some(start) => word
                .strip_prefix(start)
                .is_some_and(|rest| digits(rest.trim_start_matches('-'))),
            None => word == shape,
        },
    }
}

fn is_known(text: &str) -> bool {
    SHAPES.iter().any(|shape| {
        let (words, shapes) = (text.split(' '), shape.split(' '));
        words.clone().count() == shapes.clone().count()
            && words
                .zip(shapes)
                .all(|(word, shape)| word_fits(word, shape))
    })
}

/// All that the module ever wrote to the kernel log is of a kind that is known to tell nothing.
pub fn log_lines_have_known_shapes() -> Result<()> {
    // At least these lines, and whatever the tests before this one have caused.
    drop(Bound::new(CMB)?);
    for pci in [DISK, SMALL] {
        let bound = Bound::to_be(pci)?;
        bound.bind().expect_err("it has no memory to donate");
    }
    let bound = Bound::new(PLAIN)?;
    let holder = Helper::hold(PLAIN, LEN, OURS, Pin::Uring, After::Unmap)?;
    let mut unbind = bound.begin_unbind()?;
    Log::from_boot()?.wait_for(PLAIN.0, "unbind waits", 1)?;
    holder.release()?;
    ensure!(unbind.wait()?.success());

    let mut log = Log::from_boot()?;
    let mut seen = 0;
    for record in log.records()? {
        let Some(text) = record.text.strip_prefix("p2pmem") else {
            continue;
        };
        // The kernel itself names the programs of these tests that it kills.
        if !text.starts_with([':', ' ']) {
            continue;
        }
        let (origin, text) = text.split_once(": ").context("no colon")?;
        ensure!(
            origin.is_empty() || origin.starts_with(" 0000:"),
            "whose line is this: {}",
            record.text
        );
        ensure!(is_known(text), "unknown: {}", record.text);
        seen += 1;
    }
    ensure!(seen >= 5, "only {seen} lines");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_tell_known_lines_from_others() {
        assert!(is_known("64 MiB of memory in BAR 2 for peer-to-peer DMA"));
        assert!(is_known(
            "unbind waits for 4096 KiB still pinned, mapped by a?b[304], other mappings: 0"
        ));
        assert!(is_known("cannot take over BAR 2: ENOMEM"));
        assert!(!is_known("cannot take over BAR 2: 0xffff888000000000"));
        assert!(is_known("BAR 2 at 0x380000100000 is not aligned to 2 MiB"));
        assert!(!is_known(
            "BAR 2 at 0xffff888000000000 is not aligned to 2 MiB"
        ));
        assert!(!is_known("64 MiB at ffff888000000000"));
    }
}
