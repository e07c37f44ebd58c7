/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Input of bindgen: what the kernel's bindings crate lacks. Functions named
 * helper_* wrap the inline function or macro of the same name (helpers.c);
 * constants named HELPER_* hold the macro of the same name.
 */
#ifndef P2PMEM_HELPERS_H
#define P2PMEM_HELPERS_H

#include <linux/anon_inodes.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/memremap.h>
#include <linux/pci.h>
#include <linux/sched.h>
#include <linux/sysfs.h>

/* include/linux/mm.h, page_ref.h, huge_mm.h: pages and folios */
struct page *helper_pfn_to_page(unsigned long pfn);
int helper_page_ref_count(const struct page *page);
bool helper_page_ref_freeze(struct page *page, int count);
void helper_page_ref_unfreeze(struct page *page, int count);
void helper_get_page(struct page *page);
void helper_put_page(struct page *page);
struct folio *helper_page_folio(struct page *page);
void helper_folio_set_large_rmappable(struct folio *folio);
void helper_page_clear_flags(struct page *page);
void helper_folio_clear_flags(struct folio *folio);
void helper_zero_pages(struct page *page, size_t bytes);

/* include/linux/percpu-refcount.h: the references that pages hold on a pgmap */
bool helper_pgmap_tryget_many(struct dev_pagemap *pgmap, unsigned long nr);
void helper_zone_device_put_many(struct page *page, unsigned long nr);

/* include/linux/pgtable.h */
bool helper_pmd_none(pmd_t *pmd);
bool helper_pmd_trans_huge(pmd_t *pmd);

/* include/linux/pci.h */
unsigned long helper_pci_resource_flags(struct pci_dev *pdev, int bar);
u64 helper_pci_bus_address(struct pci_dev *pdev, int bar);

/* include/linux/sysfs.h, sched.h, device.h */
void helper_sysfs_attr_init(struct attribute *attr);
void helper_current_comm(char *comm);
int helper_dev_to_node(struct device *dev);
void helper_cond_resched(void);

#ifdef __BINDGEN__
/* The kernel's crate gives VM_MAYSHARE the value of VM_MAYEXEC. */
const vm_flags_t HELPER_VM_MAYSHARE = VM_MAYSHARE;
const unsigned int HELPER_S_DAX = S_DAX;
const unsigned int HELPER_PMD_ORDER = PMD_ORDER;
const vm_fault_t HELPER_VM_FAULT_NOPAGE = VM_FAULT_NOPAGE;
const vm_fault_t HELPER_VM_FAULT_SIGBUS = VM_FAULT_SIGBUS;
const vm_fault_t HELPER_VM_FAULT_FALLBACK = VM_FAULT_FALLBACK;
const unsigned int HELPER_FAULT_FLAG_WRITE = FAULT_FLAG_WRITE;
const unsigned long HELPER_IORESOURCE_UNSET = IORESOURCE_UNSET;

#endif /* __BINDGEN__ */

#endif /* P2PMEM_HELPERS_H */
