// SPDX-License-Identifier: GPL-2.0

//! `/proc/self/smaps`: what the kernel says about a mapping.

use anyhow::{Context, Result};
use std::collections::HashMap;
use std::fs;
use std::ops::Range;

/// One mapping.
#[derive(Debug, Default)]
pub struct Vma {
    pub range: Range<usize>,
    /// As in `rw-s`.
    pub permissions: String,
    /// Two-letter names as in Documentation/filesystems/proc.rst.
    pub flags: Vec<String>,
    /// The lines with sizes, in bytes.
    sizes: HashMap<String, usize>,
}

impl Vma {
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|f| f == flag)
    }

    pub fn size_of(&self, name: &str) -> Option<usize> {
        self.sizes.get(name).copied()
    }
}

/// All mappings of this process.
pub fn vmas() -> Result<Vec<Vma>> {
    Ok(parse(&fs::read_to_string("/proc/self/smaps")?))
}

/// The mapping at `address`.
pub fn vma_at(address: usize) -> Result<Vma> {
    vmas()?
        .into_iter()
        .find(|vma| vma.range.contains(&address))
        .with_context(|| format!("no mapping at {address:#x} in smaps"))
}

fn parse(text: &str) -> Vec<Vma> {
    let mut vmas: Vec<Vma> = Vec::new();
    for line in text.lines() {
        if let Some(vma) = parse_head(line) {
            vmas.push(vma);
        } else if let (Some(vma), Some((name, value))) = (vmas.last_mut(), line.split_once(':')) {
            if name == "VmFlags" {
                vma.flags = value.split_whitespace().map(str::to_owned).collect();
            } else if let Some(kib) = value.trim().strip_suffix(" kB") {
                let kib: usize = kib.trim().parse().unwrap_or(0);
                vma.sizes.insert(name.to_owned(), kib * 1024);
            }
        }
    }
    vmas
}

/// `7f00-7f20 rw-s 00000000 00:0e 1033   path`
fn parse_head(line: &str) -> Option<Vma> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    let permissions = words.next()?.to_owned();
    Some(Vma {
        range: start..end,
        permissions,
        ..Vma::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_read_with_its_sizes_and_flags() {
        let text = "\
7f0000000000-7f0000800000 rw-s 00000000 00:0e 1033   anon_inode:[p2pmem x]
Size:               8192 kB
Rss:                2048 kB
THPeligible:           1
VmFlags: rd wr sh mr mw me ms de dd
7fff00000000-7fff00021000 rw-p 00000000 00:00 0      [stack]
Size:                132 kB
VmFlags: rd wr mr mw me gd ac
";
        let vmas = parse(text);
        assert_eq!(vmas.len(), 2);
        assert_eq!(vmas[0].range, 0x7f00_0000_0000..0x7f00_0080_0000);
        assert_eq!(vmas[0].permissions, "rw-s");
        assert_eq!(vmas[0].size_of("Rss"), Some(2 << 20));
        assert!(vmas[0].has("de") && !vmas[0].has("io"));
        assert!(vmas[1].has("gd") && !vmas[1].has("sh"));
    }
}
