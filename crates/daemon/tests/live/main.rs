//! The daemon as a process of its own in a network namespace, with the real kernel: what is blocked is blocked, the record says
//! why, and a kill at any moment leaves what it should.
//!
//! No test harness: the same program is also the daemon (`__daemon`) and what reverts (`__revert`), as the product is.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ban;
mod block;
mod capture;
mod daemon;
mod detect;
mod feed;
mod flood;
mod guess;
mod odd;
mod policy;
mod record;
mod scan;
mod scene;

use std::ffi::OsString;
use std::process::ExitCode;

macro_rules! all {
    ($($module:ident::$name:ident,)*) => {
        /// Every test with its name.
        const ALL: &[(&str, fn())] = &[$((stringify!($name), $module::$name),)*];
    };
}

all! {
    block::observing_blocks_nothing_and_says_what_it_would,
    block::a_rule_in_a_file_blocks_and_the_record_says_why,
    ban::denied_packets_ban_their_source_in_the_kernel,
    detect::denied_ports_make_a_scan,
    detect::closed_ports_make_a_scan_where_all_is_allowed,
    detect::who_comes_and_goes_at_a_service_is_banned,
    detect::who_comes_and_goes_behind_a_flood_is_banned,
    scan::nmap_is_banned_by_the_fifth_port_where_all_is_denied,
    scan::nmap_is_banned_by_the_fifth_port_where_all_is_allowed,
    scan::among_decoys_the_scanner_is_banned_and_nobody_that_is_needed,
    odd::unusual_scans_are_banned_where_all_is_denied,
    odd::unusual_scans_are_banned_where_all_is_allowed,
    odd::scans_over_ipv6_that_hide_are_banned,
    capture::a_capture_of_a_scan_replays_to_the_same_ban,
    capture::a_capture_of_a_host_that_only_observed_replays_to_the_same_bans,
    capture::what_nobody_answers_is_denied_each_time_live_and_in_a_capture,
    capture::a_captured_scan_that_takes_its_time_is_banned_by_the_slow_window,
    flood::a_flood_of_syns_from_one_source_is_limited_and_the_service_answers,
    flood::a_flood_of_datagrams_from_one_source_is_limited_and_the_service_answers,
    flood::a_flood_of_pings_is_limited_or_banned_as_the_policy_says,
    flood::a_flood_of_pings_is_limited_and_then_banned_for_its_rate,
    flood::a_flood_of_syns_from_everywhere_bans_nobody,
    flood::many_small_segments_are_over_the_rate_unless_their_sender_is_protected,
    guess::ten_failed_logins_are_banned_and_the_administrator_stays,
    ban::bans_by_hand_survive_kill_and_restart,
    ban::what_was_answered_is_written_down,
    policy::a_changed_file_comes_into_force_and_a_wrong_one_does_not,
    block::what_a_stranger_flushes_is_put_back_within_two_seconds,
    policy::an_unconfirmed_policy_goes_back,
    policy::the_watched_file_unconfirmed_does_not_come_back_by_itself,
    policy::an_unconfirmed_policy_goes_back_though_the_daemon_was_killed,
    policy::an_unconfirmed_policy_goes_back_to_the_one_in_force_and_a_restart_knows_the_one_before,
    policy::who_observes_a_policy_takes_out_what_a_killed_daemon_left,
    policy::a_confirmed_policy_stays_and_rolls_back_on_request,
    policy::who_begins_with_another_than_was_asked_for_knows_what_the_next_start_takes,
    block::content_rules_drop_and_reject_what_they_name,
    ban::allow_lifts_and_prevents_bans,
    ban::bans_are_exported_and_imported_in_both_forms,
    ban::a_site_that_offends_is_banned_whole_and_single_bans_are_put_back,
    record::followers_hear_events_as_they_come,
    block::flush_takes_everything_out_and_apply_puts_it_back,
    policy::a_second_daemon_and_a_wrong_policy_are_refused,
    policy::a_policy_that_cuts_an_ssh_session_is_refused,
    policy::an_ssh_session_on_another_port_is_known,
    record::the_api_says_what_is_wrong_with_a_request,
    ban::from_the_threshold_packet_to_the_drop_in_the_kernel_is_a_moment,
    record::a_full_disk_stops_the_record_alone,
    feed::a_feed_follows_its_file_and_outlives_it,
    feed::a_folder_of_lists_is_watched_and_no_half_list_is_read,
    feed::a_feed_never_cuts_a_protected_address,
    record::a_hang_up_reopens_the_files_and_reads_the_policy,
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.first().and_then(|first| first.to_str()) {
        Some("__revert") => {
            portcullis_daemon::revert::main(&arguments[1..], &portcullis_daemon::revert::command())
        }
        Some("__daemon") => daemon::main(&arguments[1..]),
        _ => run_tests(&arguments),
    }
}

fn run_tests(arguments: &[OsString]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let filters: Vec<&str> = words
        .iter()
        .copied()
        .filter(|word| !word.starts_with('-'))
        .collect();
    let wanted =
        |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter));
    if words.contains(&"--list") {
        for (name, _) in ALL {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    if let Err(why) = lab::available() {
        eprintln!("SKIPPED all live tests: {why}");
        return ExitCode::SUCCESS;
    }
    let mut failed = Vec::new();
    for (name, test) in ALL.iter().filter(|(name, _)| wanted(name)) {
        let begun = std::time::Instant::now();
        let passed = std::panic::catch_unwind(test).is_ok();
        let verdict = if passed { "ok" } else { "FAILED" };
        println!(
            "test {name} ... {verdict} ({:.1} s)",
            begun.elapsed().as_secs_f64()
        );
        if !passed {
            failed.push(*name);
        }
    }
    if failed.is_empty() {
        println!("test result: ok");
        ExitCode::SUCCESS
    } else {
        println!("test result: FAILED: {}", failed.join(", "));
        ExitCode::FAILURE
    }
}
