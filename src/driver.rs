// SPDX-License-Identifier: GPL-2.0

//! What a bound device owns: probe and unbind.

use crate::{
    abstractions::{
        pagemap::Pagemap,
        pci::{Region, NO_DEVICE},
    },
    module_parameters,
    pool::Pool,
    region::{self, Donation},
    sysfs::{self, Files},
};
use core::pin::Pin;
use kernel::{
    device::Core, device_id::IdArray, new_mutex, pci, prelude::*, sync::Arc, sync::Mutex,
};

/// A bound device.
#[pin_data]
pub(crate) struct P2pMem {
    // Taken by unbind.
    #[pin]
    files: Mutex<Option<Files>>,
    pool: Arc<Pool>,
    donation: Donation,
}

// Not `pci_device_table!`: that would put an alias into modules.alias.
const ID_TABLE: IdArray<pci::DeviceId, (), 1> = IdArray::new([(NO_DEVICE, ())]);

impl pci::Driver for P2pMem {
    type IdInfo = ();
    type Data<'bound> = Self;

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &ID_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        _id: &'bound Self::IdInfo,
    ) -> impl PinInit<Self, Error> + 'bound {
        pin_init::pin_init_scope(move || {
            let donation = region::find(pdev, *module_parameters::bar.value()).map_err(|why| {
                dev_err!(pdev, "{why}\n");
                why.to_error()
            })?;
            let pool = donate(pdev, &donation).inspect_err(|err| {
                dev_err!(pdev, "cannot take over BAR {}: {err:?}\n", donation.bar);
                withdraw(pdev, &donation);
            })?;
            let files = sysfs::add(pdev.as_ref(), pool.clone()).inspect_err(|err| {
                dev_err!(pdev, "cannot add the p2pmem directory: {err:?}\n");
                pool.close(pdev.as_ref());
                withdraw(pdev, &donation);
            })?;

            dev_info!(
                pdev,
                "{} MiB of {} in BAR {} for peer-to-peer DMA\n",
                pool.account().size() >> 20,
                donation.kind(),
                donation.bar
            );
            Ok(try_pin_init!(Self {
                files <- new_mutex!(Some(files)),
                pool,
                donation,
            }))
        })
    }

    /// Waits until every pin has drained. `device_lock` is held meanwhile, and for hot-unplug the
    /// lock of PCI hotplug.
    fn unbind(pdev: &pci::Device<Core<'_>>, this: Pin<&Self>) {
        // No new mappings, and none half made.
        this.pool.refuse();
        let files = this.files.lock().take();
        drop(files);
        this.pool.close(pdev.as_ref());
        withdraw(pdev, &this.donation);
    }
}

/// Makes pages for the donated memory and a pool of them.
fn donate(pdev: &pci::Device<Core<'_>>, donation: &Donation) -> Result<Arc<Pool>> {
    let region = Region::request(pdev, donation.bar, c"p2pmem")?;
    let pagemap = KBox::pin_init(Pagemap::new(region, donation.range.clone()), GFP_KERNEL)?;
    Pool::new(pagemap)
}

fn withdraw(pdev: &pci::Device<Core<'_>>, donation: &Donation) {
    if let Err(err) = donation.withdraw(pdev) {
        dev_warn!(
            pdev,
            "cannot switch the controller memory buffer off: {err:?}\n"
        );
    }
}
