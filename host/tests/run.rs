//! `wrt-host run`: anybody's guest, its exit code, its budget.

mod common;

use std::time::{Duration, Instant};

use common::{Folder, PAGE, count, sound};
use wrt_memory_guests::real;

/// A program that ends with this code.
fn exits(code: u32) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (func (export "_start") (call $exit (i32.const {code}))))"#
    )
}

/// A program that writes this to stdout `times` times.
fn says(text: &str, times: u32) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 16) "{text}")
            (func (export "_start")
                (local $left i32)
                (local.set $left (i32.const {times}))
                (i32.store (i32.const 0) (i32.const 16))
                (i32.store (i32.const 4) (i32.const {}))
                (loop $again
                    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
                    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                    (br_if $again (local.get $left)))))"#,
        text.replace("\\n", "\n").len()
    )
}

#[test]
fn a_program_has_stdin_stdout_and_its_arguments() {
    let folder = Folder::new();
    for name in ["text-index", "markdown"] {
        let guest = real(name);
        folder.real(name);
        let file = format!("{name}.wasm");
        let mut args = vec!["run", &file, "--limit", "8MiB", "--"];
        args.extend(guest.args);
        let ran =
            folder.host_with(&args, guest.sample_input).ended(0, &["every byte is back in the pool", "peak"]);
        assert_eq!(ran.stdout, guest.expected_output, "{name}");
    }
}

#[test]
fn the_exit_code_is_the_guests() {
    let folder = Folder::new();
    for code in [0, 1, 42, 125] {
        folder.file("exits.wat", exits(code));
        folder.host(&["run", "exits.wat"]).ended(code as i32, &[]);
    }
    folder.real("markdown");
    folder.host(&["run", "markdown.wasm", "--", "--no-such-option"]).ended(1, &["usage: markdown"]);
    folder.file("first.wat", exits(0));
    folder.file("second.wat", exits(7));
    folder.host(&["run", "first.wat", "second.wat"]).ended(7, &["exit code 7"]);
}

#[test]
fn a_trap_is_not_an_exit_code_of_a_program() {
    let folder = Folder::new();
    folder.file("trap.wat", r#"(module (func (export "_start") unreachable))"#);
    folder.host(&["run", "trap.wat"]).ended(134, &["unreachable", "every byte is back"]);
    folder.file("start.wat", "(module (func $f unreachable) (start $f) (func (export \"run\")))");
    folder.host(&["run", "start.wat"]).ended(134, &["trapped", "unreachable"]);
    folder.wat("recursion");
    folder.host(&["run", "recursion.wat", "--", "0"]).ended(134, &["call stack exhausted"]);
}

#[test]
fn used_is_never_above_the_limit() {
    let folder = Folder::new();
    folder.wat("hog");
    let ran = folder.host(&["run", "hog.wat", "--limit", "1MiB", "--json"]).ended(0, &[]);
    let report = ran.json();
    sound(&report);
    assert_eq!(report["crates"][0]["high_water"], 1 << 20);
    assert_eq!(report["crates"][0]["limit"], 1 << 20);
    assert!(report["crates"][0]["denials"]["limit"].as_u64() > Some(0));
    assert_eq!(report["guests"][0]["runs"][0]["value"], "15");
    let denial = report["guests"][0]["runs"][0]["last_denial"].as_str().unwrap();
    assert!(denial.contains("crate `hog` asked for 65536 bytes"), "{denial}");
}

#[test]
fn a_program_that_needs_more_is_refused_cleanly() {
    let folder = Folder::new();
    folder.real("text-index");
    folder.real("markdown");
    for guest in ["text-index.wasm", "markdown.wasm"] {
        let ran = folder
            .host(&["run", guest, "--limit", "1MiB", "--json", "--", "word"])
            .ended(123, &["refused at load", "its limit of 1048576", "a limit of "]);
        let report = ran.json();
        sound(&report);
        assert_eq!(report["guests"][0]["runs"][0]["outcome"], "refused_at_load");
    }
}

#[test]
fn a_denial_can_end_the_guest() {
    let folder = Folder::new();
    folder.wat("hog");
    folder.host(&["run", "hog.wat", "--limit", "1MiB", "--on-denial", "trap"]).ended(
        123,
        &["crate `hog` asked for 65536 bytes: 1048576 of its limit of 1048576", "every byte is back"],
    );
}

#[test]
fn two_memories_of_one_module_are_one_sum() {
    let folder = Folder::new();
    folder.wat("two_memories");
    let run = |limit: &str| {
        folder.host(&["run", "two_memories.wat", "--invoke", "size0", "--limit", limit, "--json"])
    };
    let refused = run("64KiB").ended(123, &["65536 of its limit of 65536 are in use"]);
    sound(&refused.json());
    let fits = run("128KiB").ended(0, &[]);
    assert_eq!(fits.json()["crates"][0]["high_water"], 2 * PAGE);
}

#[test]
fn the_core_instances_of_a_component_are_one_sum() {
    let folder = Folder::new();
    folder.wat("component_two_instances");
    let run = |limit: &str| {
        folder.host(&["run", "component_two_instances.wat", "--invoke", "sizes", "--limit", limit, "--json"])
    };
    sound(&run("64KiB").ended(123, &["refused at load"]).json());
    let report = run("128KiB").ended(0, &[]).json();
    assert_eq!(report["guests"][0]["runs"][0]["value"], "2");
    assert_eq!(report["guests"][0]["kind"], "component");
}

#[test]
fn the_sum_of_ten_instances_is_held() {
    let folder = Folder::new();
    folder.wat("hog");
    // Room for exactly ten: nobody gets more than it began with.
    let run = |limit: &str| folder.host(&["run", "hog.wat", "--instances", "10", "--limit", limit, "--json"]);
    let report = run("640KiB").ended(0, &[]).json();
    sound(&report);
    assert_eq!(report["crates"][0]["high_water"], 10 * PAGE);
    assert_eq!(count(&report, "returned"), 10);
    // For four: six are refused before any of the four runs, and ends.
    let report = run("256KiB").ended(123, &["hog, 6 of 10 instances: refused at load"]).json();
    sound(&report);
    assert_eq!(report["crates"][0]["high_water"], 4 * PAGE);
    assert_eq!((count(&report, "returned"), count(&report, "refused_at_load")), (4, 6));
}

#[test]
fn many_instances_end_with_all_bytes_back() {
    let folder = Folder::new();
    folder.wat("hog");
    let report = folder
        .host(&["run", "hog.wat", "--instances", "300", "--limit", "32MiB", "--json", "-q"])
        .ended(0, &[])
        .json();
    sound(&report);
    assert_eq!(report["crates"][0]["high_water"], 32 << 20);
}

#[test]
fn the_pool_bounds_all_guests_together() {
    let folder = Folder::new();
    folder.wat("hog");
    folder.wat("component_hog");
    let ran = folder.host(&[
        "run",
        "hog.wat",
        "component_hog.wat",
        "--pool",
        "2MiB",
        "--guarantee",
        "512KiB",
        "--json",
    ]);
    let report = ran.ended(0, &[]).json();
    sound(&report);
    assert_eq!(report["pool"]["limit"], 2 << 20);
    for node in report["crates"].as_array().unwrap() {
        assert!(node["high_water"].as_u64() >= Some(512 << 10), "{report:#}");
        assert!(node["denials"]["pool"].as_u64() > Some(0), "{report:#}");
    }
}

#[test]
fn an_endless_guest_is_ended() {
    let folder = Folder::new();
    folder.wat("spin");
    folder.file(
        "endless_start.wat",
        "(module (memory 1) (func $f (loop $l (br $l))) (start $f) (func (export \"run\")))",
    );
    let began = Instant::now();
    let ran = folder.host(&["run", "spin.wat", "--timeout", "200ms"]);
    ran.ended(124, &["timed out after 200ms", "every byte is back in the pool"]);
    let ran = folder.host(&["run", "endless_start.wat", "--timeout", "200ms", "--json"]);
    sound(&ran.ended(124, &[]).json());
    // More of them than there are threads.
    let ran = folder.host(&["run", "spin.wat", "--instances", "5", "--timeout", "500ms", "--json"]);
    let report = ran.ended(124, &[]).json();
    sound(&report);
    assert_eq!((count(&report, "timed_out"), &report["crates"][0]["high_water"]), (5, &(5 * PAGE).into()));
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[test]
fn a_guest_that_waits_for_the_host_is_ended_too() {
    let folder = Folder::new();
    folder.real("markdown");
    // Its stdin stays open and empty.
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_wrt-host"))
        .args(["run", "markdown.wasm", "--timeout", "300ms"])
        .current_dir(folder.path())
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let open = child.stdin.take();
    assert_eq!(child.wait().unwrap().code(), Some(124));
    drop(open);
}

#[test]
fn a_guest_that_writes_to_nobody_is_ended_too() {
    let folder = Folder::new();
    folder.file("yes.wat", says("yes\\n", 1 << 30));
    // Nobody reads its stdout, which is not closed either.
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_wrt-host"))
        .args(["run", "yes.wat", "--timeout", "300ms"])
        .current_dir(folder.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let open = child.stdout.take();
    assert_eq!(child.wait().unwrap().code(), Some(124));
    drop(open);
}

#[test]
fn the_peak_can_be_asserted() {
    let folder = Folder::new();
    folder.wat("hog");
    let run = |peak: &str| folder.host(&["run", "hog.wat", "--limit", "1MiB", "--assert-peak", peak]);
    run("1MiB").ended(0, &["peak 1 MiB (1048576 bytes) of 1 MiB"]);
    run("1048575")
        .ended(121, &["the peak, 1 MiB (1048576 bytes), is above the asserted 1024.0 KiB (1048575 bytes)"]);
}

#[test]
fn as_cargos_runner_the_guest_comes_after_the_dashes() {
    let folder = Folder::new();
    let guest = real("text-index");
    folder.real("text-index");
    let run = |peak: &str| {
        let mut args = vec!["run", "--limit", "32MiB", "--assert-peak", peak, "--", "text-index.wasm"];
        args.extend(guest.args);
        folder.host_with(&args, guest.sample_input)
    };
    assert_eq!(run("8MiB").ended(0, &["wrt-host: text-index: peak"]).stdout, guest.expected_output);
    assert_eq!(run("64KiB").ended(121, &["is above the asserted 64 KiB"]).stdout, guest.expected_output);
}

#[test]
fn several_write_by_lines_and_one_writes_what_it_likes() {
    let folder = Folder::new();
    folder.file("says.wat", says("so\\nand ", 2));
    let one = folder.host(&["run", "says.wat"]).ended(0, &[]);
    assert_eq!(one.stdout(), "so\nand so\nand ");
    let two = folder.host(&["run", "says.wat", "--instances", "2"]).ended(0, &["says", "done"]);
    let mut lines: Vec<_> = two.stdout().lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "says#1 | and ",
            "says#1 | and so",
            "says#1 | so",
            "says#2 | and ",
            "says#2 | and so",
            "says#2 | so"
        ]
    );
    let none = folder.host(&["run", "says.wat", "--output", "discard"]).ended(0, &[]);
    assert_eq!(none.stdout(), "");
}

#[test]
fn json_and_what_guests_write_do_not_mix() {
    let folder = Folder::new();
    folder.file("says.wat", says("hello\\n", 1));
    let ran = folder.host(&["run", "says.wat", "--json"]).ended(0, &["hello\n"]);
    sound(&ran.json());
    let ran = folder.host(&["run", "says.wat", "--json=report.json"]).ended(0, &[]);
    assert_eq!(ran.stdout(), "hello\n");
    let report = std::fs::read(folder.path().join("report.json")).unwrap();
    sound(&serde_json::from_slice(&report).unwrap());
    folder.host(&["run", "says.wat", "--json=/no/such/folder/x"]).ended(125, &["/no/such/folder/x"]);
}

#[test]
fn much_output_arrives_whole() {
    let folder = Folder::new();
    folder.file("says.wat", says("0123456789abcde\\n", 100_000));
    let ran = folder.host(&["run", "says.wat"]).ended(0, &[]);
    assert_eq!(ran.stdout, b"0123456789abcde\n".repeat(100_000));
}

#[test]
fn folders_and_variables_are_only_what_is_given() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    // Its exit code: the number of preopened folders and of variables, as two digits.
    folder.file(
        "world.wat",
        r#"(module
            (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (func (export "_start")
                (local $fd i32)
                (local.set $fd (i32.const 3))
                (block $end (loop $more
                    (br_if $end (call $prestat (local.get $fd) (i32.const 0)))
                    (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
                    (br $more)))
                (drop (call $sizes (i32.const 0) (i32.const 4)))
                (call $exit (i32.add
                    (i32.mul (i32.sub (local.get $fd) (i32.const 3)) (i32.const 10))
                    (i32.load (i32.const 0))))))"#,
    );
    folder.host(&["run", "world.wat"]).ended(0, &[]);
    folder
        .host(&[
            "run",
            "world.wat",
            "--dir",
            "data",
            "--dir",
            "data::/other",
            "--env",
            "A=1",
            "--env",
            "PATH",
        ])
        .ended(22, &[]);
}

#[test]
fn functions_are_called_with_arguments_by_their_types() {
    let folder = Folder::new();
    folder.wat("refused_forever");
    let report = folder
        .host(&["run", "refused_forever.wat", "--limit", "64KiB", "--json", "--", "1000"])
        .ended(0, &[])
        .json();
    assert_eq!(report["guests"][0]["runs"][0]["value"], "1000");
    folder
        .host(&["run", "refused_forever.wat"])
        .ended(126, &["`run` takes (i32), and none was given after `--`"]);
    folder
        .host(&["run", "refused_forever.wat", "--", "many"])
        .ended(126, &["`many` cannot be passed as i32"]);
    folder.wat("component_hog");
    folder
        .host(&["run", "component_hog.wat", "--invoke", "grow", "--limit", "1MiB", "--json", "--", "3"])
        .ended(0, &[]);
}

#[test]
fn what_cannot_be_run_is_explained() {
    let folder = Folder::new();
    folder.file("text.txt", "just a text");
    folder.file("cut.wasm", b"\0asm\x01\0\0\0\x01");
    folder.file("typo.wat", "(module (func (export \"run\") (i32.cnst 1)))");
    folder.wat("hog");
    folder.wat("leaker");
    folder.wat("host_call");
    folder.wat("import_memory");
    folder.wat("shared_memory");
    folder.wat("failed_start");
    for (args, code, said) in [
        (&["run", "absent.wasm"][..], 127, "absent.wasm: No such file"),
        (&["run", "hog.wat", "word"], 127, "arguments come after `--`"),
        (&["run", "."], 126, "directory"),
        (&["run", "text.txt"], 126, "this is not WebAssembly"),
        (&["run", "cut.wasm"], 126, "cut.wasm"),
        (&["run", "typo.wat"], 126, "i32.cnst"),
        (
            &["run", "leaker.wat"],
            126,
            "no `_start` (so it is no WASI command) and no function `run`; there are: step",
        ),
        (&["run", "leaker.wat", "--invoke", "stop"], 126, "exports no function `stop`; there are: step"),
        (
            &["run", "shared_memory.wat", "--invoke", "size"],
            126,
            "cannot be run: shared memory support is disabled",
        ),
        (&["run", "failed_start.wat"], 126, "there is nothing to call"),
        (&["run", "host_call.wat"], 126, "imports what this host has not: function `env` `call`"),
        (&["run", "import_memory.wat", "--invoke", "grow", "--", "1"], 126, "memory `"),
    ] {
        folder.host(args).ended(code, &["wrt-host: ", said]);
    }
    // One that cannot be run keeps the others from running, and says so before.
    folder.file("says.wat", says("hello", 1));
    let ran = folder.host(&["run", "says.wat", "absent.wasm"]).ended(127, &[]);
    assert_eq!(ran.stdout(), "");
}

#[test]
fn what_makes_no_sense_is_explained() {
    let folder = Folder::new();
    folder.wat("hog");
    for (args, said) in [
        (&["run"][..], "<GUEST"),
        (&["run", "hog.wat", "--limit", "64XB"], "there is no unit `XB`; use KiB, MiB, GiB"),
        (
            &["run", "hog.wat", "--limit", "1MiB", "--guarantee", "2MiB"],
            "the limit (1 MiB) is below the guarantee (2 MiB)",
        ),
        (
            &["run", "hog.wat", "--limit", "2MiB", "--pool", "1MiB"],
            "the limit (2 MiB) is above the pool (1 MiB)",
        ),
        (
            &["run", "hog.wat", "hog.wat", "--guarantee", "1MiB", "--pool", "1MiB"],
            "guarantees add up to 2097152 bytes",
        ),
        (&["run", "hog.wat", "--instances", "0"], "at least one instance"),
        (&["run", "hog.wat", "--limt", "1MiB"], "--limit"),
        (&["walk", "hog.wat"], "walk"),
    ] {
        folder.host(args).ended(2, &[said]);
    }
}

#[test]
fn stacks_are_charged_on_request() {
    let folder = Folder::new();
    folder.wat("no_memory");
    let peak = |args: &[&str]| {
        let report = folder.host(args).ended(0, &[]).json();
        sound(&report);
        report["crates"][0]["high_water"].as_u64().unwrap()
    };
    assert_eq!(peak(&["run", "no_memory.wat", "--json"]), 0);
    assert!(peak(&["run", "no_memory.wat", "--json", "--charge-stacks"]) >= 2 << 20);
    folder
        .host(&["run", "no_memory.wat", "--charge-stacks", "--limit", "64KiB"])
        .ended(123, &["ended by a denial: crate `no_memory` asked for 2097152 bytes"]);
}

#[test]
fn wasmi_keeps_a_hog_in_its_budget_and_takes_everything_back() {
    let folder = Folder::new();
    folder.wat("hog");
    let run = ["run", "hog.wat", "--runtime", "wasmi", "--limit", "1MiB"];
    folder.host(&run).ended(0, &["hog: peak ", "of 1 MiB", "every byte is back in the pool"]);
    folder
        .host(&[&run[..], &["--instances", "2"]].concat())
        .ended(0, &["denied, lived on", "every byte is back in the pool"]);
    let report = folder.host(&[&run[..], &["--json"]].concat()).ended(0, &[]).json();
    sound(&report);
    assert_eq!((&report["runtime"], &report["guests"][0]["kind"]), (&"wasmi".into(), &"core".into()));
    let got: u64 = report["guests"][0]["runs"][0]["value"].as_str().unwrap().parse().unwrap();
    assert!(got > 0 && got * PAGE < 1 << 20, "{got}");
    assert!(report["guests"][0]["runs"][0]["last_denial"].as_str().unwrap().contains("`hog`"), "{report:#}");
    folder.host(&[&run[..], &["--on-denial", "trap"]].concat()).ended(123, &["every byte is back"]);
    folder
        .host(&["run", "hog.wat", "--runtime", "wasmi", "--limit", "64KiB"])
        .ended(123, &["refused at load", "its limit of 65536", "every byte is back"]);
}

#[test]
fn wasmi_runs_programs() {
    let folder = Folder::new();
    let guest = real("text-index");
    folder.real("text-index");
    let mut args = vec!["run", "text-index.wasm", "--runtime", "wasmi", "--limit", "8MiB", "--"];
    args.extend(guest.args);
    let ran = folder.host_with(&args, guest.sample_input).ended(0, &["every byte is back in the pool"]);
    assert_eq!(ran.stdout, guest.expected_output);
    for code in [0, 42] {
        folder.file("exits.wat", exits(code));
        folder.host(&["run", "exits.wat", "--runtime", "wasmi"]).ended(code as i32, &[]);
    }
    folder.file("trap.wat", r#"(module (func (export "_start") unreachable))"#);
    folder
        .host(&["run", "trap.wat", "--runtime", "wasmi"])
        .ended(134, &["unreachable", "every byte is back"]);
}

#[test]
fn wasmi_says_what_it_cannot_run() {
    let folder = Folder::new();
    folder.real("markdown");
    folder
        .host(&["run", "markdown.wasm", "--runtime", "wasmi"])
        .ended(126, &["it is a component", "`--runtime wasmtime` runs it"]);
    folder.wat("shared_memory");
    folder.host(&["run", "shared_memory.wat", "--runtime", "wasmi"]).ended(126, &["no shared memories"]);
    folder.wat("host_call");
    folder
        .host(&["run", "host_call.wat", "--runtime", "wasmi"])
        .ended(126, &["imports what this host has not"]);
    folder.wat("hog");
    folder
        .host(&["run", "hog.wat", "--runtime", "wasmi", "--charge-stacks"])
        .ended(2, &["under wasmi they are always charged"]);
}

#[test]
fn wasmi_ends_an_endless_guest() {
    let folder = Folder::new();
    folder.wat("spin");
    folder.file("start.wat", "(module (func $f (loop $l (br $l))) (start $f) (func (export \"run\")))");
    for guest in ["spin.wat", "start.wat"] {
        let began = Instant::now();
        let ran = folder
            .host(&["run", guest, "--runtime", "wasmi", "--limit", "1MiB", "--timeout", "200ms", "--json"])
            .ended(124, &["timed out after 200ms"]);
        assert!(began.elapsed() < Duration::from_secs(20), "{guest}");
        sound(&ran.json());
    }
}

#[test]
fn a_pool_of_the_machine_says_where_it_came_from() {
    let folder = Folder::new();
    folder.wat("hog");
    let args = ["run", "hog.wat", "--limit", "1MiB", "--total", "auto", "--reserve", "1GiB"];
    folder.host(&args).ended(0, &["(the pool: /", " allows ", "less 1 GiB for the host)"]);
    let report = folder.host(&[&args[..], &["--json"]].concat()).ended(0, &[]).json();
    sound(&report);
    let machine = |name: &str| report["machine"][name].as_u64().unwrap();
    assert_eq!(machine("reserve"), 1 << 30);
    assert_eq!(machine("total"), machine("limit") - (1 << 30));
    // In units of the manager.
    let pool = report["pool"]["limit"].as_u64().unwrap();
    assert!(pool <= machine("total") && pool > machine("total") - 4096, "{pool}");
    assert!(report["machine"]["source"].as_str().unwrap().starts_with('/'));
    // Two guests: in the table, too.
    let args = ["run", "hog.wat", "hog.wat", "--limit", "1MiB", "--pool", "auto", "--reserve", "20%"];
    folder.host(&args).ended(0, &["the pool's size: /"]);
    // A pool that is said is nobody's but who said it.
    let report = folder.host(&["run", "hog.wat", "--limit", "1MiB", "--json"]).ended(0, &[]).json();
    assert!(report["machine"].is_null());
    folder.host(&["run", "hog.wat", "--reserve", "1GiB"]).ended(2, &["needs a pool of `auto`"]);
    folder.host(&["run", "hog.wat", "--pool", "auto", "--reserve", "100%"]).ended(2, &["leaves nothing"]);
    folder.host(&["run", "hog.wat", "--pool", "auto", "--limit", "1TiB"]).ended(2, &["above the pool"]);
}
