// SPDX-License-Identifier: GPL-2.0

//! The guest's hot-plug slot, and the NVMe drive with a CMB that goes in and out of it.
//!
//! ```text
//! let mut slot = Slot::open()?;
//! let pci = slot.plug()?;
//! slot.unplug_begin()?; // or slot.pull()?
//! slot.wait_gone()?;
//! ```

use crate::device::{Pci, HOT};
use crate::harness;
use crate::helper::Helper;
use crate::poll;
use crate::qmp::Monitor;
use anyhow::{ensure, Context, Result};
use serde_json::json;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The root port that has the slot, for Linux and for QEMU.
const PORT: Pci = Pci("0000:00:18.0");
const PORT_ID: &str = "hp0";
/// QEMU's name for what is in the slot.
const ID: &str = "hot";

/// The slot; empty again on drop.
pub struct Slot {
    monitor: Monitor,
    state: State,
    /// Who makes the kernel hurry.
    switch: Option<Helper>,
}

enum State {
    Empty,
    Plugged,
    Going,
}

impl Slot {
    pub fn open() -> Result<Slot> {
        ensure!(PORT.exists(), "the guest lacks the root port {}", PORT.0);
        ensure!(!HOT.exists(), "there is a device in the slot already");
        Ok(Slot {
            monitor: Monitor::open()?,
            state: State::Empty,
            switch: None,
        })
    }

    /// The monitor of QEMU, which nobody else can open meanwhile.
    pub fn monitor(&mut self) -> &mut Monitor {
        &mut self.monitor
    }

    /// Plugs the drive in and waits until the nvme driver has it, as any drive that is plugged in.
    pub fn plug(&mut self) -> Result<Pci> {
        self.plug_device(Some("hotdisk"))
    }

    /// Plugs in a drive that nothing can be stored on. QEMU lets go of a drive when the last I/O
    /// with its memory ends, and is not in a position to let go of its disk there.
    pub fn plug_without_disk(&mut self) -> Result<Pci> {
        self.plug_device(None)
    }

    fn plug_device(&mut self, disk: Option<&str>) -> Result<Pci> {
        const ATTEMPTS: usize = 3;
        for attempt in 1.. {
            let mut nvme = json!({
                "driver": "nvme", "id": ID, "bus": PORT_ID, "serial": ID, "cmb_size_mb": 16,
            });
            if let Some(disk) = disk {
                nvme["drive"] = disk.into();
            }
            self.monitor.execute("device_add", nvme)?;
            self.state = State::Plugged;
            let plugged = poll::until("the drive that was plugged in", || {
                Ok(HOT.driver().as_deref() == Some("nvme") && SlotControl::read()?.is_on())
            });
            match plugged {
                Ok(()) => break,
                // On a busy machine the kernel may come to the last event of the drive before, and
                // switch the slot off, when the next drive is there already.
                Err(error) if attempt == ATTEMPTS || HOT.exists() => return Err(error),
                Err(_) => self.state = State::Empty,
            }
        }
        Ok(HOT)
    }

    /// Asks for the drive, as its user does by the button at the slot. The kernel takes it from its
    /// driver and then switches the slot off: the drive works until the driver lets go of it.
    pub fn unplug_begin(&mut self) -> Result<()> {
        self.press_button()?;
        // The kernel gives the user five seconds to press it again. This makes it start.
        let power = format!("/sys/bus/pci/slots/{}/power", slot_number()?);
        self.switch = Some(Helper::write(&power, "0")?);
        Ok(())
    }

    /// Pulls the drive out without a warning: on return there is none any more, whatever the kernel
    /// has noticed of that.
    pub fn pull(&mut self) -> Result<()> {
        self.press_button()?;
        // QEMU ends device_del at once when the slot has no power, so take that for a moment, in
        // which the kernel hears of nothing: it is to find that the drive is gone, not the power.
        let on = SlotControl::read()?;
        let off = on.0 | SlotControl::POWER_OFF | SlotControl::INDICATOR_OFF;
        SlotControl(off & !SlotControl::INTERRUPT).write()?;
        on.write()
    }

    /// What QEMU makes of device_del.
    fn press_button(&mut self) -> Result<()> {
        self.monitor.execute("device_del", json!({ "id": ID }))?;
        self.state = State::Going;
        poll::until("the kernel has seen the button", || {
            Ok(!SlotControl::read()?.is_on())
        })
    }

    /// Waits until the kernel is done with the drive and the slot can take another.
    pub fn wait_gone(&mut self) -> Result<()> {
        poll::until("the drive is gone", || Ok(!HOT.exists()))?;
        // Not before the power is off, and that is a second after the drive is gone.
        poll::until("the slot is off", || Ok(SlotControl::read()?.is_off()))?;
        self.monitor
            .wait_for("DEVICE_DELETED", |data| data["device"] == ID)?;
        // Its status says nothing: if it came late, the kernel had started by itself.
        if let Some(mut switch) = self.switch.take() {
            switch.wait()?;
        }
        self.state = State::Empty;
        Ok(())
    }

    fn empty(&mut self) -> Result<()> {
        match self.state {
            State::Empty => return Ok(()),
            State::Plugged => self.unplug_begin()?,
            State::Going => (),
        }
        self.wait_gone()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        harness::note_problem(self.empty().context("emptying the slot"));
    }
}

/// As in the names in `/sys/bus/pci/slots`.
fn slot_number() -> Result<u32> {
    // Slot Capabilities, Physical Slot Number.
    Ok(u32::from_le_bytes(express_register(0x14)?.1) >> 19)
}

/// Slot Control of the root port (PCI Express Base Specification 5.0, section 7.5.3.10).
struct SlotControl(u16);

impl SlotControl {
    const OFFSET: u64 = 0x18;
    const INTERRUPT: u16 = 1 << 5;
    /// The power indicator: on, blinking, or off.
    const INDICATOR: u16 = 3 << 8;
    const INDICATOR_ON: u16 = 1 << 8;
    const INDICATOR_OFF: u16 = 3 << 8;
    const POWER_OFF: u16 = 1 << 10;

    fn read() -> Result<SlotControl> {
        let (_, [low, high, ..]) = express_register(Self::OFFSET)?;
        Ok(SlotControl(u16::from_le_bytes([low, high])))
    }

    fn write(&self) -> Result<()> {
        let (at, _) = express_register(Self::OFFSET)?;
        let config = File::options().write(true).open(PORT.path("config"))?;
        config
            .write_all_at(&self.0.to_le_bytes(), at)
            .context("Slot Control")
    }

    fn is_on(&self) -> bool {
        self.0 & Self::INDICATOR == Self::INDICATOR_ON
    }

    fn is_off(&self) -> bool {
        self.0 & Self::INDICATOR == Self::INDICATOR_OFF
    }
}

/// Where a register of the root port's PCI Express capability is, and four bytes of it.
fn express_register(offset: u64) -> Result<(u64, [u8; 4])> {
    const FIRST: u64 = 0x34;
    const EXPRESS: u8 = 0x10;

    let config = File::open(PORT.path("config"))?;
    let mut at = [FIRST as u8; 1];
    config.read_exact_at(&mut at, FIRST)?;
    loop {
        ensure!(at[0] != 0, "{} is no PCI Express port", PORT.0);
        let capability = u64::from(at[0]);
        let mut header = [0; 2];
        config.read_exact_at(&mut header, capability)?;
        if header[0] == EXPRESS {
            let mut value = [0; 4];
            config.read_exact_at(&mut value, capability + offset)?;
            return Ok((capability + offset, value));
        }
        at[0] = header[1];
    }
}
