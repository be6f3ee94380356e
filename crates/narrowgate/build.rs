//! Link arguments of the released program: what a router's flash need not hold.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/no-unwind.ld");
    println!("cargo:rerun-if-changed={script}");
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    // A panic aborts, so nobody unwinds; the tables for it were an eighth of the program.
    println!("cargo:rustc-link-arg-bins=-Wl,-T,{script}");
    println!("cargo:rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
    // Relative relocations in a bit map (glibc 2.36, musl 1.2.4).
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}
