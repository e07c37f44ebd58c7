// SPDX-License-Identifier: GPL-2.0

//! Loading and unloading p2pmem.ko.

use crate::harness;
use crate::poll;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::kmod::{delete_module, finit_module, DeleteModuleFlags, ModuleInitFlags};
use std::ffi::CString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

static FILE: OnceLock<PathBuf> = OnceLock::new();

/// Says which file it is, once.
pub fn set_file(file: PathBuf) {
    FILE.set(file).expect("only main sets it, once");
}

pub fn file() -> &'static Path {
    FILE.get().expect("main set it")
}

/// insmod, with parameters as in `bar=2`.
pub fn load(parameters: &str) -> Result<()> {
    let file = File::open(file()).with_context(|| file().display().to_string())?;
    let parameters_c = CString::new(parameters)?;
    finit_module(&file, &parameters_c, ModuleInitFlags::empty())
        .with_context(|| format!("insmod p2pmem.ko {parameters}"))
}

/// One attempt at rmmod.
pub fn try_unload() -> nix::Result<()> {
    delete_module(c"p2pmem", DeleteModuleFlags::O_NONBLOCK)
}

/// rmmod; a mapping that was just dropped may keep the module busy for a moment.
pub fn unload() -> Result<()> {
    poll::until("rmmod p2pmem", || match try_unload() {
        Ok(()) => Ok(true),
        Err(Errno::EAGAIN | Errno::EBUSY) => Ok(false),
        Err(e) => Err(e).context("rmmod p2pmem"),
    })
}

pub fn is_loaded() -> bool {
    Path::new("/sys/module/p2pmem").exists()
}

/// Brings back, on drop, the state that every test starts from: loaded, without parameters.
pub struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        let unloaded = match is_loaded() {
            true => unload(),
            false => Ok(()),
        };
        harness::note_problem(unloaded.and_then(|()| load("")));
    }
}

/// Unloads it until drop.
pub fn unloaded() -> Result<Restore> {
    unload()?;
    Ok(Restore)
}

/// Loads it with parameters until drop.
pub fn with_parameters(parameters: &str) -> Result<Restore> {
    let restore = unloaded()?;
    load(parameters)?;
    Ok(restore)
}
