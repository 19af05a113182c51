"""Rows of the table that other tests prove: fault, the invariants that are at stake, and the tests.

`test_elsewhere.py` sees to it that they exist.
"""

from __future__ import annotations

ELSEWHERE: dict[str, tuple[str, *tuple[str, ...]]] = {
    "any order of queue verbs, lost and late requests, crashes": (
        "CSD",
        "test_any_order_of_verbs_faults_and_crashes_keeps_every_record_in_one_place",
    ),
    "a Redis that forgets its last second, in any order of queue verbs": (
        "CD",
        "test_whatever_redis_forgets_nothing_is_lost_and_nothing_is_written_twice",
    ),
    "a transform asks for a later time": (
        "CD",
        "test_what_is_to_be_tried_later_waits_and_is_delivered_once_in_the_end",
        "test_a_consumer_killed_around_it_loses_nothing_and_writes_nothing_twice",
    ),
    "crawl killed and started over": (
        "CSD",
        "test_a_crawl_killed_in_the_middle_starts_over_and_every_quote_is_on_the_list_once",
    ),
    "SIGSTOP in a write, longer than the lease": (
        "CSD",
        "test_a_consumer_stopped_for_longer_than_its_lease_is_fenced_when_it_goes_on",
    ),
    "slow sink renews": ("CSD", "test_a_write_longer_than_the_lease_is_renewed_and_not_taken_over"),
    "sink down": (
        "CSDL",
        "test_a_sink_that_is_down_is_waited_for_without_burning_attempts_and_readyz_says_so",
        "test_sigterm_while_the_sink_is_down_gives_the_batch_back",
    ),
    "sink disk full, then freed": (
        "CSDL",
        "test_a_full_destination_takes_the_batch_once_it_has_room",
    ),
    "poison": (
        "CSDL",
        "test_a_record_that_kills_its_consumers_ends_as_one_dead_letter_and_all_others_are_delivered",
    ),
    "SIGTERM, then a second": (
        "CSD",
        "test_sigterm_under_load_finishes_what_is_held_and_leaves_no_lease",
        "test_a_second_sigterm_gives_back_at_once_and_the_batch_is_never_filled_again",
        "test_sigterm_publishes_everything_that_was_read_from_a_source_that_cant_be_read_again",
    ),
    "Sentinel failover": ("CSDL", "test_a_killed_primary_under_load_costs_nothing_that_two_replicas_hold"),
    "hostile numbers and text in typed sinks": (
        "CS",
        "test_an_integer_beyond_64_bits_names_its_record_and_its_column",
        "test_any_field_is_in_its_column_or_its_record_set_aside",
    ),
    "SSE: endless line": ("SLB", "test_an_endless_line_is_refused_once_and_reading_goes_on"),
    "SSE: one byte at a time": ("CS", "test_a_stream_of_single_bytes_is_read"),
    "SSE: silence": ("L", "test_silence_is_a_drop", "test_silence_instead_of_an_answer_is_a_failure"),
    "SSE: 204": ("S", "test_204_ends_the_source"),
    "SSE: 301 and other redirects": (
        "CS",
        "test_redirects_are_followed_with_the_last_event_id",
        "test_a_redirect_loop_is_refused",
    ),
    "SSE: 4xx": ("S", "test_an_answer_that_will_not_change_is_refused_at_once"),
    "SSE: 5xx, 408, 429": ("CL", "test_an_answer_that_may_change_is_asked_for_again"),
    "SSE: wrong type": ("S", "test_another_content_type_is_refused"),
    "SSE: damaged gzip": ("CS", "test_damaged_compression_is_a_drop"),
    "site answers 429": (
        "CL",
        "test_a_busy_site_is_asked_again_until_it_answers",
        "test_a_site_that_is_too_busy_says_when_to_come_again",
    ),
    "robots.txt forbids": ("S", "test_robots_txt_that_forbids_everything_is_a_refusal"),
    "hostile partition values": (
        "CS",
        "test_no_partition_value_leaves_the_directory_or_loses_a_record",
        "test_any_text_is_one_file_name_that_reads_back",
    ),
    "CSV formulas": ("S", "test_a_formula_is_escaped"),
    "leader silent for too long": (
        "CSD",
        "test_a_leader_that_was_silent_too_long_is_fenced_and_stands_by_again",
    ),
}
