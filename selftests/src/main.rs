// SPDX-License-Identifier: GPL-2.0

//! Tests of p2pmem.ko, run as root in the guest of `scripts/vm`.
//!
//! ```text
//! p2pmem-selftest [--module FILE] [FILTER] [options of libtest, as --list or --exact]
//! ```
//!
//! The tests of one subject are one file in `tests/`.
//! The last line is `N passed, N failed`.

use libtest_mimic::{Arguments, Trial};
use p2pmem_selftests::{failing, harness, helper, kprobe, module, tests};
use std::path::PathBuf;
use std::process::ExitCode;

/// The trials for the functions of the modules in `tests`, in that order.
macro_rules! trials {
    ($($subject:ident: $($test:ident)*;)*) => {
        vec![$($(harness::trial(
            concat!(stringify!($subject), "::", stringify!($test)),
            tests::$subject::$test,
        )),*),*]
    };
}

fn trials() -> Vec<Trial> {
    let mut trials = trials! {
        loading:
            loads_and_unloads_without_a_warning
            has_no_alias
            rmmod_is_refused_while_a_mapping_lives
            rmmod_unbinds_a_device
            rmmod_does_not_take_pinned_memory_away;
        binding:
            binds_only_by_driver_override
            nvme_controller_memory_buffer
            nvme_controller_memory_buffer_of_before_1_4
            nvme_controller_memory_buffer_that_is_off
            plain_prefetchable_bar
            largest_prefetchable_bar_among_others
            parameter_bar_chooses_the_bar
            two_devices_at_once
            sysfs_files_have_their_modes_and_formats
            available_counts_whole_pages
            mappings_do_not_overlap
            group_permission_gives_allocate;
        vma_rules:
            flags_are_those_of_ordinary_memory
            each_mapping_has_a_file_of_its_own
            pages_come_at_first_touch_or_with_map_populate
            rss_grows_and_returns_to_what_it_was;
        bad_input:
            map_private
            offset_not_zero
            prot_exec
            prot_exec_by_mprotect
            longer_than_available
            available_in_pieces_is_available
            file_that_was_opened_before_unbind
            file_that_is_open_for_reading_only
            nvme_controller_without_cmb
            bar_smaller_than_2_mib
            bar_without_an_address
            parameter_bar_out_of_range
            parameter_bar_is_an_io_bar
            parameter_bar_is_too_small
            parameter_bar_is_not_there;
        huge:
            entries_when_the_setting_is_always
            entries_when_the_setting_is_madvise
            entries_when_the_setting_is_never
            entries_of_a_controller_memory_buffer
            entries_of_a_mapping_of_the_whole_device
            entries_of_a_whole_aligned_gib
            entries_whoever_touches_first
            no_entries_where_madvise_forbids_them
            entries_may_be_split;
        around:
            a_touch_fills_a_table_of_small_entries
            a_touch_fills_an_end_with_small_entries
            a_touch_fills_gaps_only
            a_touch_maps_no_more_that_was_never_used
            a_touch_maps_large_blocks_behind_it
            a_touch_maps_large_blocks_up_to_a_border
            the_ends_of_whole_chunks_make_one_block
            the_ends_are_whole_in_a_fragmented_pool;
        memory_calls:
            fork_shares
            memory_of_a_child_outlives_the_parents_mapping
            partial_munmap_leaves_the_rest
            mremap_moves
            mremap_moves_a_part
            mremap_shrinks_but_does_not_grow_or_duplicate
            madv_dontneed_keeps_the_memory
            madvise_does_no_harm
            madv_dontfork_is_followed
            futexes_are_private_ones
            mlock_and_munlock
            mprotect
            mprotect_makes_a_readable_mapping_writable
            msync
            proc_pid_mem
            smaps_pagemap_and_numa_maps_can_be_read
            contents_are_left_out_of_core_dumps
            many_mappings_at_once;
        pinning:
            registration_succeeds
            registration_of_the_kernels_own_p2pmem_fails
            rdma_from_device_memory_to_ram
            rdma_from_ram_to_device_memory
            rdma_within_device_memory
            rdma_between_two_devices
            io_uring_fixed_buffers
            io_uring_fixed_buffers_in_a_cmb
            o_direct
            process_vm_readv_and_writev
            vmsplice
            read_and_write;
        tools:
            ib_write_bw
            fio;
        quarantine:
            munmap_does_not_wait_for_pins
            registered_memory_is_kept_from_others
            fixed_buffers_are_kept_from_others
            registered_memory_of_a_cmb_is_kept_from_others
            one_pinned_page_does_not_keep_all_the_rest
            the_last_of_several_pins_counts
            pages_in_a_pipe_are_kept_from_others
            pages_of_a_process_that_has_exited_are_kept_from_others
            memory_of_a_killed_process_comes_back;
        zeroing:
            contents_of_before_binding_are_not_seen
            contents_of_a_cmb_before_binding_are_not_seen
            contents_of_before_binding_are_not_seen_in_small_mappings
            contents_of_the_last_owner_are_not_seen
            contents_of_the_last_owner_of_a_cmb_are_not_seen
            contents_are_not_seen_however_soon_it_is_mapped_again
            contents_written_through_a_pin_after_munmap_are_not_seen
            contents_are_gone_after_unbind
            contents_are_gone_after_unbind_of_mapped_memory
            contents_of_a_cmb_are_gone_after_unbind
            contents_written_through_a_pin_during_unbind_are_gone_after_it;
        first_use:
            one_block_can_be_touched_while_another_is_zeroed
            several_touch_a_block_at_once
            unbind_while_a_block_is_zeroed;
        unbind:
            mapped_memory_gives_sigbus_after_it
            inherited_and_moved_memory_gives_sigbus_after_it
            waits_for_a_registration_of_mapped_memory
            waits_for_a_registration_of_unmapped_memory
            waits_for_io_uring_with_mapped_memory
            waits_for_io_uring_with_unmapped_memory
            says_every_ten_seconds_that_it_waits
            says_nothing_when_nothing_is_pinned
            ends_when_the_holder_is_killed
            leaves_pinned_memory_alone_while_it_waits
            gives_the_controller_back_to_nvme
            works_again_and_again
            comes_with_the_removal_of_the_device;
        removal:
            of_a_device_that_nobody_uses
            of_a_device_whose_memory_is_mapped
            waits_for_a_registration_of_mapped_memory
            waits_for_io_uring_with_unmapped_memory
            waits_for_o_direct_in_flight
            waits_for_io_uring_in_flight
            without_warning_while_memory_is_mapped
            without_warning_waits_for_a_registration
            without_warning_waits_for_io_uring
            without_warning_while_io_is_in_flight
            works_many_times;
        limits:
            single_pages_until_none_is_left
            fifty_thousand_live_mappings
            memory_whose_pins_are_gone_can_be_mapped_at_once
            mmap_does_not_wait_for_pins
            mmap_that_a_pin_stands_against_does_not_wait_for_zeroing
            mmap_waits_for_memory_that_is_being_zeroed
            mmap_waits_no_longer_than_ten_seconds
            a_signal_ends_the_wait_for_memory
            a_thousand_processes_contend_for_an_exhausted_pool;
        traps:
            blocks_of_other_orders_under_the_eyes_of_gup_fast
            faults_of_both_sizes_at_once
            mprotect_at_every_page_of_a_huge_entry
            madvise_at_every_page_of_a_huge_entry
            munmap_at_every_page_of_a_huge_entry
            mremap_of_partly_populated_ranges
            fork_and_mremap_against_unbind
            release_against_unbind
            work_is_queued_at_rmmod
            userfaultfd_is_refused
            remap_file_pages_is_refused
            no_flags_of_the_last_user;
        access:
            the_directory_has_the_documented_files
            nobody_gets_nothing_but_numbers
            the_group_gets_allocate_and_nothing_else
            calls_that_make_no_sense_get_errors
            file_that_is_open_for_writing_only
            files_hold_one_number_each
            log_lines_have_known_shapes;
    };
    // What needs to look into the kernel, which the debug kernels have no means for.
    if kprobe::is_possible() {
        trials.extend(trials! {
            recycling:
                a_block_that_keeps_its_order_is_made_a_folio_once
                a_block_whose_pages_had_another_order_is_made_again;
        });
    }
    // What needs another kernel than those of distributions.
    if failing::is_possible() {
        trials.extend(trials! {
            failing:
                insmod
                probe
                probe_of_a_controller_memory_buffer
                mmap
                mmap_of_many_blocks
                first_touch_of_4_kib
                first_touch_of_2_mib
                fork
                mremap
                munmap
                munmap_of_a_part
                unbind
                unbind_of_a_controller_memory_buffer
                registration
                io_uring_registration;
        });
    }
    trials
}

fn main() -> ExitCode {
    if let Some(status) = helper::main() {
        return status;
    }

    let mut arguments: Vec<String> = std::env::args().collect();
    let mut module = PathBuf::from("p2pmem.ko");
    if let Some(at) = arguments.iter().position(|a| a == "--module") {
        arguments.remove(at);
        if at == arguments.len() {
            eprintln!("--module needs a file");
            return ExitCode::FAILURE;
        }
        module = PathBuf::from(arguments.remove(at));
    }
    module::set_file(module);

    match harness::run(Arguments::from_iter(arguments), trials()) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("p2pmem-selftest: {error:#}");
            ExitCode::FAILURE
        }
    }
}
