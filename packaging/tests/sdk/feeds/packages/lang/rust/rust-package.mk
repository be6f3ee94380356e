# Stand-in for rust-package.mk, with those of its settings that ours take back.
RUST_ARCH_DEPENDS := @(mipsel||x86_64)
CARGO_PKG_VARS = CARGO_PROFILE_RELEASE_PANIC=unwind CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true RUSTFLAGS="-Ctarget-feature=-crt-static"
