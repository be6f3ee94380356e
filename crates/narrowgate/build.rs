//! Link arguments of the released program: what a router's flash need not hold.

use std::io::Write;
use std::process::{Command, Stdio};

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/no-unwinding.ld");
    println!("cargo:rerun-if-changed={script}");
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    println!("cargo:rustc-link-arg-bins=-Wl,-T,{script}");
    println!("cargo:rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
    // Relative relocations in a bit map (glibc 2.36). A musl before 1.2.4 does not know it, and says nothing of that but crashes.
    if std::env::var("CARGO_CFG_TARGET_ENV").as_deref() != Ok("musl") {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    // Functions that are the same to the byte, once. GNU ld does not know it.
    if linker_takes(FOLD) {
        println!("cargo:rustc-link-arg-bins={FOLD}");
    }
}

/// Whether the linker that rustc will use links an empty program with this argument.
fn linker_takes(argument: &str) -> bool {
    let out = |name: &str| std::env::var(name).unwrap_or_default();
    let mut rustc = Command::new(out("RUSTC"));
    rustc.args(["--crate-type=bin", "--crate-name=probe", "--target", &out("TARGET"), "-Cpanic=abort"]);
    rustc.arg(format!("-Clink-arg={argument}")).arg("--out-dir").arg(out("OUT_DIR")).arg("-");
    if let Ok(linker) = std::env::var("RUSTC_LINKER") {
        rustc.arg(format!("-Clinker={linker}"));
    }
    let child = rustc.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = child else { return false };
    let written = child.stdin.take().is_some_and(|mut source| source.write_all(b"fn main() {}").is_ok());
    written && child.wait().is_ok_and(|status| status.success())
}

const FOLD: &str = "-Wl,--icf=all";
