# Stand-in for package.mk: `make PACKAGE` prepares, compiles and installs to $(DEST)/PACKAGE; `make PACKAGE.postinst` prints that script.
PKG_BUILD_DIR = $(BUILD)/$(PKG_NAME)

define BuildPackage
.PHONY: $(1) $(1).postinst
$(1): built
	$$(call Package/$(1)/install,$(DEST)/$(1))
export POSTINST_$(subst -,_,$(1)) := $$(Package/$(1)/postinst)
$(1).postinst:
	@echo "$$$$POSTINST_$(subst -,_,$(1))"
endef

.PHONY: built
built:
	$(Build/Prepare)
	$(Build/Compile)
