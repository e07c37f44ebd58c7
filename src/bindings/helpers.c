// SPDX-License-Identifier: GPL-2.0
/*
 * Inline functions and macros of the kernel as functions that Rust can call.
 * Nothing else belongs here.
 */

#include "helpers.h"

struct page *helper_pfn_to_page(unsigned long pfn)
{
	return pfn_to_page(pfn);
}

int helper_page_ref_count(const struct page *page)
{
	return page_ref_count(page);
}

bool helper_page_ref_freeze(struct page *page, int count)
{
	return page_ref_freeze(page, count);
}

void helper_page_ref_unfreeze(struct page *page, int count)
{
	page_ref_unfreeze(page, count);
}

void helper_get_page(struct page *page)
{
	get_page(page);
}

void helper_put_page(struct page *page)
{
	put_page(page);
}

struct folio *helper_page_folio(struct page *page)
{
	return page_folio(page);
}

void helper_folio_set_large_rmappable(struct folio *folio)
{
	folio_set_large_rmappable(folio);
}

/* As free_pages_prepare() does for ordinary pages. */
void helper_page_clear_flags(struct page *page)
{
	page->flags.f &= ~PAGE_FLAGS_CHECK_AT_PREP;
}

/* Likewise, but the folio keeps its shape. */
void helper_folio_clear_flags(struct folio *folio)
{
	folio->flags.f &= ~(PAGE_FLAGS_CHECK_AT_PREP & ~BIT(PG_head));
}

/*
 * Eight bytes a store: on an uncached BAR each store is a transaction of its
 * own, and memset() may store single bytes.
 *
 * The stores are posted. The load waits until the device has them: a transfer
 * of the next owner's may take another way, and they must not arrive after it
 * (PCI Express Base Specification, 2.4.1).
 */
void helper_zero_pages(struct page *page, size_t bytes)
{
	u64 *words = page_address(page);
	size_t count = bytes / sizeof(u64);

	memset64(words, 0, count);
	if (count)
		READ_ONCE(words[count - 1]);
}

bool helper_pgmap_tryget_many(struct dev_pagemap *pgmap, unsigned long nr)
{
	return percpu_ref_tryget_many(&pgmap->ref, nr);
}

/* To the pgmap that @page belongs to. */
void helper_zone_device_put_many(struct page *page, unsigned long nr)
{
	percpu_ref_put_many(&page_pgmap(page)->ref, nr);
}

bool helper_pmd_none(pmd_t *pmd)
{
	return pmd_none(pmdp_get_lockless(pmd));
}

bool helper_pmd_trans_huge(pmd_t *pmd)
{
	return pmd_trans_huge(pmdp_get_lockless(pmd));
}

unsigned long helper_pci_resource_flags(struct pci_dev *pdev, int bar)
{
	return pci_resource_flags(pdev, bar);
}

u64 helper_pci_bus_address(struct pci_dev *pdev, int bar)
{
	return pci_bus_address(pdev, bar);
}

void helper_sysfs_attr_init(struct attribute *attr)
{
	sysfs_attr_init(attr);
}

void helper_current_comm(char *comm)
{
	get_task_comm(*(char (*)[TASK_COMM_LEN])comm, current);
}

int helper_dev_to_node(struct device *dev)
{
	return dev_to_node(dev);
}

void helper_cond_resched(void)
{
	cond_resched();
}
