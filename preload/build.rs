//! Link options of the shared object.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // No crtbegin, no crti: nothing here has destructors, and `.init_array` needs no start files.
    println!("cargo::rustc-cdylib-link-arg=-nostartfiles");
    println!(
        "cargo::rustc-cdylib-link-arg=-Wl,-soname,libpacketmark.so,--hash-style=both,-z,relro,-z,now,-z,noseparate-code"
    );
}
