// SPDX-License-Identifier: GPL-2.0

//! RDMA over the guest's software device `rxe0`: memory registration, write and read.

use crate::mapping::Mapping;
use crate::poll;
use anyhow::{bail, ensure, Context, Result};
use nix::errno::Errno;
use std::fs;
use std::net::Ipv6Addr;
use std::ops::Range;
use std::process::Command;
use std::ptr::{self, NonNull};
use std::rc::Rc;

/// What bindgen made of infiniband/verbs.h.
#[allow(
    clippy::all,
    dead_code,
    improper_ctypes,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unsafe_op_in_unsafe_fn
)]
mod sys {
    include!(concat!(env!("OUT_DIR"), "/verbs_sys.rs"));
}

/// The guest's RDMA device, as scripts/guest-rxe makes it.
pub const DEVICE: &str = "rxe0";

const PORT: u8 = 1;

/// The RDMA device exists and has an IPv4 address afterwards.
pub fn set_up_device() -> Result<()> {
    let output = Command::new("scripts/guest-rxe")
        .output()
        .context("scripts/guest-rxe (is the checkout the working directory?)")?;
    ensure!(
        output.status.success(),
        "scripts/guest-rxe: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Index in the device's table of its IPv4 address.
pub fn gid_index() -> Result<u8> {
    let gids = format!("/sys/class/infiniband/{DEVICE}/ports/{PORT}/gids");
    poll::until_some("an IPv4 address on the RDMA device", || {
        for index in 0..16 {
            let gid = fs::read_to_string(format!("{gids}/{index}")).unwrap_or_default();
            let gid: Result<Ipv6Addr, _> = gid.trim_end().parse();
            if gid.is_ok_and(|gid| gid.to_ipv4_mapped().is_some()) {
                return Ok(Some(index));
            }
        }
        Ok(None)
    })
}

struct Device(NonNull<sys::ibv_context>);

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: opened by `Rdma::open`, and all that was made of it is gone: it holds an `Rc`.
        unsafe { sys::ibv_close_device(self.0.as_ptr()) };
    }
}

struct Domain {
    pd: NonNull<sys::ibv_pd>,
    context: Device,
}

impl Drop for Domain {
    fn drop(&mut self) {
        // SAFETY: as for the context.
        unsafe { sys::ibv_dealloc_pd(self.pd.as_ptr()) };
    }
}

/// The device, opened, with a protection domain.
#[derive(Clone)]
pub struct Rdma(Rc<Domain>);

impl Rdma {
    /// Makes the device if it is not there, and opens it.
    pub fn open() -> Result<Rdma> {
        set_up_device()?;
        Rdma::open_existing()
    }

    pub fn open_existing() -> Result<Rdma> {
        let context = Device(open_device()?);
        // SAFETY: the context is open.
        let pd = unsafe { sys::ibv_alloc_pd(context.0.as_ptr()) };
        let pd = NonNull::new(pd)
            .ok_or_else(Errno::last)
            .context("ibv_alloc_pd")?;
        Ok(Rdma(Rc::new(Domain { pd, context })))
    }

    /// ibv_reg_mr with all of local write, remote write and remote read.
    pub fn register(&self, mapping: &Mapping) -> nix::Result<Region> {
        self.register_part(mapping, 0..mapping.len())
    }

    pub fn register_part(&self, mapping: &Mapping, offsets: Range<usize>) -> nix::Result<Region> {
        self.register_range(mapping.addresses(&offsets))
    }

    /// The same with addresses at which nothing suitable need be.
    pub fn register_range(&self, range: Range<usize>) -> nix::Result<Region> {
        let access = sys::IBV_ACCESS_LOCAL_WRITE
            | sys::IBV_ACCESS_REMOTE_WRITE
            | sys::IBV_ACCESS_REMOTE_READ;
        // SAFETY: nothing has a Rust reference into the memory; the kernel pins its pages and
        // uses those, whatever becomes of the addresses.
        let mr = unsafe {
            sys::ibv_reg_mr(
                self.0.pd.as_ptr(),
                range.start as *mut _,
                range.len(),
                access as i32,
            )
        };
        Ok(Region {
            mr: NonNull::new(mr).ok_or_else(Errno::last)?,
            range,
            _domain: self.0.clone(),
        })
    }
}

fn open_device() -> Result<NonNull<sys::ibv_context>> {
    let mut count = 0;
    // SAFETY: the list has `count` elements and is used before it is freed.
    unsafe {
        let list = sys::ibv_get_device_list(&mut count);
        ensure!(!list.is_null(), "ibv_get_device_list: {}", Errno::last());
        let devices = std::slice::from_raw_parts(list, count as usize);
        let wanted = devices.iter().find(|&&device| {
            let name = std::ffi::CStr::from_ptr(sys::ibv_get_device_name(device));
            name.to_bytes() == DEVICE.as_bytes()
        });
        let context = wanted.map_or(ptr::null_mut(), |&device| sys::ibv_open_device(device));
        sys::ibv_free_device_list(list);
        NonNull::new(context).with_context(|| format!("opening the RDMA device {DEVICE}"))
    }
}

/// Registered memory, which stays pinned until drop, mapped or not.
pub struct Region {
    mr: NonNull<sys::ibv_mr>,
    range: Range<usize>,
    _domain: Rc<Domain>,
}

impl Region {
    fn lkey(&self) -> u32 {
        // SAFETY: valid until drop.
        unsafe { self.mr.as_ref().lkey }
    }

    fn rkey(&self) -> u32 {
        // SAFETY: valid until drop.
        unsafe { self.mr.as_ref().rkey }
    }

    pub fn len(&self) -> usize {
        self.range.len()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: made by ibv_reg_mr; every operation on it was waited for.
        unsafe { sys::ibv_dereg_mr(self.mr.as_ptr()) };
    }
}

/// Part of a registered region.
pub type Part<'a> = (&'a Region, Range<usize>);

/// Two queue pairs that are connected with each other.
pub struct Loopback {
    near: NonNull<sys::ibv_qp>,
    far: NonNull<sys::ibv_qp>,
    cq: NonNull<sys::ibv_cq>,
    rdma: Rdma,
}

impl Loopback {
    pub fn new(rdma: &Rdma) -> Result<Loopback> {
        let context = rdma.0.context.0.as_ptr();
        // SAFETY: the context is open; there is no completion channel.
        let cq = unsafe { sys::ibv_create_cq(context, 16, ptr::null_mut(), ptr::null_mut(), 0) };
        let cq = NonNull::new(cq)
            .ok_or_else(Errno::last)
            .context("ibv_create_cq")?;
        let near = create_queue_pair(rdma, cq)?;
        let far = create_queue_pair(rdma, cq)?;
        let loopback = Loopback {
            near,
            far,
            cq,
            rdma: rdma.clone(),
        };
        loopback.connect(near, far)?;
        loopback.connect(far, near)?;
        Ok(loopback)
    }

    fn connect(&self, local: NonNull<sys::ibv_qp>, remote: NonNull<sys::ibv_qp>) -> Result<()> {
        let gid_index = gid_index()?;
        let mut gid = sys::ibv_gid::default();
        // SAFETY: the context is open and `gid` is written to.
        let result = unsafe {
            sys::ibv_query_gid(
                self.rdma.0.context.0.as_ptr(),
                PORT,
                gid_index.into(),
                &mut gid,
            )
        };
        ensure!(result == 0, "ibv_query_gid: {}", Errno::last());

        let init = sys::ibv_qp_attr {
            qp_state: sys::IBV_QPS_INIT,
            port_num: PORT,
            qp_access_flags: sys::IBV_ACCESS_REMOTE_WRITE | sys::IBV_ACCESS_REMOTE_READ,
            ..Default::default()
        };
        let init_mask = sys::IBV_QP_STATE
            | sys::IBV_QP_PKEY_INDEX
            | sys::IBV_QP_PORT
            | sys::IBV_QP_ACCESS_FLAGS;

        let ready_to_receive = sys::ibv_qp_attr {
            qp_state: sys::IBV_QPS_RTR,
            path_mtu: sys::IBV_MTU_1024,
            // SAFETY: valid until drop.
            dest_qp_num: unsafe { remote.as_ref().qp_num },
            max_dest_rd_atomic: 1,
            min_rnr_timer: 12,
            ah_attr: sys::ibv_ah_attr {
                is_global: 1,
                port_num: PORT,
                grh: sys::ibv_global_route {
                    dgid: gid,
                    sgid_index: gid_index,
                    hop_limit: 1,
                    ..Default::default()
                },
                ..Default::default()
            },
            ..Default::default()
        };
        let ready_to_receive_mask = sys::IBV_QP_STATE
            | sys::IBV_QP_AV
            | sys::IBV_QP_PATH_MTU
            | sys::IBV_QP_DEST_QPN
            | sys::IBV_QP_RQ_PSN
            | sys::IBV_QP_MAX_DEST_RD_ATOMIC
            | sys::IBV_QP_MIN_RNR_TIMER;

        let ready_to_send = sys::ibv_qp_attr {
            qp_state: sys::IBV_QPS_RTS,
            // 4.096 us * 2^18, about a second: an emulated machine may be slow to answer.
            timeout: 18,
            retry_cnt: 7,
            rnr_retry: 7,
            max_rd_atomic: 1,
            ..Default::default()
        };
        let ready_to_send_mask = sys::IBV_QP_STATE
            | sys::IBV_QP_TIMEOUT
            | sys::IBV_QP_RETRY_CNT
            | sys::IBV_QP_RNR_RETRY
            | sys::IBV_QP_SQ_PSN
            | sys::IBV_QP_MAX_QP_RD_ATOMIC;

        for (mut attributes, mask) in [
            (init, init_mask),
            (ready_to_receive, ready_to_receive_mask),
            (ready_to_send, ready_to_send_mask),
        ] {
            // SAFETY: the queue pair is valid until drop.
            let result =
                unsafe { sys::ibv_modify_qp(local.as_ptr(), &mut attributes, mask as i32) };
            let state = attributes.qp_state;
            ensure!(
                result == 0,
                "ibv_modify_qp to {state}: {}",
                Errno::from_raw(result)
            );
        }
        Ok(())
    }

    /// RDMA WRITE: the far side's memory becomes a copy of the near side's.
    pub fn write(&self, near: Part, far: Part) -> Result<()> {
        self.run(sys::IBV_WR_RDMA_WRITE, near, far)
            .context("RDMA write")
    }

    /// RDMA READ: the near side's memory becomes a copy of the far side's.
    pub fn read(&self, near: Part, far: Part) -> Result<()> {
        self.run(sys::IBV_WR_RDMA_READ, near, far)
            .context("RDMA read")
    }

    fn run(&self, opcode: sys::ibv_wr_opcode, near: Part, far: Part) -> Result<()> {
        assert!(near.1.len() == far.1.len());
        assert!(near.1.end <= near.0.len() && far.1.end <= far.0.len());
        let mut sge = sys::ibv_sge {
            addr: (near.0.range.start + near.1.start) as u64,
            length: near.1.len() as u32,
            lkey: near.0.lkey(),
        };
        let mut request = sys::ibv_send_wr {
            sg_list: &mut sge,
            num_sge: 1,
            opcode,
            send_flags: sys::IBV_SEND_SIGNALED,
            ..Default::default()
        };
        request.wr.rdma.remote_addr = (far.0.range.start + far.1.start) as u64;
        request.wr.rdma.rkey = far.0.rkey();
        let mut bad = ptr::null_mut();
        // SAFETY: what the inline function ibv_post_send does. The provider copies the request;
        // the regions outlive the operation, for its completion is waited for below.
        let result = unsafe {
            let post_send = (*self.near.as_ref().context).ops.post_send;
            post_send.context("no post_send")?(self.near.as_ptr(), &mut request, &mut bad)
        };
        ensure!(result == 0, "ibv_post_send: {}", Errno::from_raw(result));

        let status = poll::until_some("completion of an RDMA operation", || self.completion())?;
        if status != sys::IBV_WC_SUCCESS {
            // SAFETY: gives a static string for any status.
            let text = unsafe { std::ffi::CStr::from_ptr(sys::ibv_wc_status_str(status)) };
            bail!("completed with: {}", text.to_string_lossy());
        }
        Ok(())
    }

    fn completion(&self) -> Result<Option<sys::ibv_wc_status>> {
        let mut completion = sys::ibv_wc::default();
        // SAFETY: what the inline function ibv_poll_cq does, with room for one completion.
        let count = unsafe {
            let poll_cq = (*self.cq.as_ref().context).ops.poll_cq;
            poll_cq.context("no poll_cq")?(self.cq.as_ptr(), 1, &mut completion)
        };
        ensure!(count >= 0, "ibv_poll_cq: {count}");
        Ok((count == 1).then_some(completion.status))
    }
}

fn create_queue_pair(rdma: &Rdma, cq: NonNull<sys::ibv_cq>) -> Result<NonNull<sys::ibv_qp>> {
    let mut attributes = sys::ibv_qp_init_attr {
        send_cq: cq.as_ptr(),
        recv_cq: cq.as_ptr(),
        qp_type: sys::IBV_QPT_RC,
        cap: sys::ibv_qp_cap {
            max_send_wr: 4,
            max_recv_wr: 1,
            max_send_sge: 1,
            max_recv_sge: 1,
            ..Default::default()
        },
        ..Default::default()
    };
    // SAFETY: domain and completion queue are valid and outlive the queue pair.
    let qp = unsafe { sys::ibv_create_qp(rdma.0.pd.as_ptr(), &mut attributes) };
    NonNull::new(qp)
        .ok_or_else(Errno::last)
        .context("ibv_create_qp")
}

impl Drop for Loopback {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and used by nothing else any more.
        unsafe {
            sys::ibv_destroy_qp(self.near.as_ptr());
            sys::ibv_destroy_qp(self.far.as_ptr());
            sys::ibv_destroy_cq(self.cq.as_ptr());
        }
    }
}
