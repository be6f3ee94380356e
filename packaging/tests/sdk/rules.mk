# Stand-in for OpenWrt's rules.mk: as much of it as our Makefiles use. DEST, BUILD: where to.
INCLUDE_DIR := $(TOPDIR)/include
BUILD_DIR := $(BUILD)
CP := cp -fpR
LN := ln -sf
INSTALL_DIR := install -d -m0755
INSTALL_BIN := install -m0755
INSTALL_DATA := install -m0644
INSTALL_CONF := install -m0600
RUSTC_TARGET_ARCH = mipsel-unknown-linux-musl
