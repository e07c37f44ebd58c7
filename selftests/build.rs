// SPDX-License-Identifier: GPL-2.0

//! Makes the libibverbs bindings from the machine's own `infiniband/verbs.h`.
//!
//! The `bindgen` command is used, not the crate: the kernel's Rust build needs
//! it anyway, so it is there, and it fits the machine's libclang.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let header = out.join("verbs.h");
    fs::write(&header, "#include <infiniband/verbs.h>\n").expect("OUT_DIR is writable");

    let status = Command::new("bindgen")
        .arg(&header)
        .arg("--output")
        .arg(out.join("verbs_sys.rs"))
        .args(["--allowlist-function", "ibv_.*"])
        .args([
            "--allowlist-type",
            "ibv_(access_flags|send_flags|qp_attr_mask)",
        ])
        .args([
            "--no-layout-tests",
            "--no-doc-comments",
            "--with-derive-default",
        ])
        .args(["--default-enum-style", "consts", "--no-prepend-enum-name"])
        .status()
        .expect("bindgen runs (Debian: apt install bindgen)");
    assert!(
        status.success(),
        "bindgen could not read infiniband/verbs.h (Debian: apt install libibverbs-dev)"
    );

    println!("cargo:rustc-link-lib=ibverbs");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=/usr/include/infiniband/verbs.h");
}
