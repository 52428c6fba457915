//! The bundled scenario, and those in files.

mod common;

use common::{Folder, sound};
use serde_json::Value;

#[test]
fn the_bundled_scenario_keeps_its_promises() {
    let ran = Folder::new().host(&[]).ended(0, &["hog: denied memory for the first time"]);
    let table = ran.stdout();
    let header: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["crate", "instances", "used", "limit", "high", "water", "denials", "outcome"]);
    for name in [
        "compress",
        "image-resize",
        "json-transform",
        "markdown",
        "text-index",
        "burst",
        "standby",
        "hog",
        "leaker",
        "refused_forever",
    ] {
        let row = table
            .lines()
            .find(|line| line.trim_start().starts_with(name))
            .unwrap_or_else(|| panic!("no {name} in {table}"));
        assert!(row.contains(" 0 B ") && (row.contains("done") || row.contains("lived on")), "{row}");
    }
    assert!(table.ends_with("every byte is back in the pool\n"), "{table}");
    // A customer's guests stand below it; what was lent came back; who waited went on.
    let rows: Vec<_> = table.lines().map(|line| line.trim_end()).collect();
    let customer = rows.iter().position(|row| row.starts_with("customer")).unwrap();
    assert!(rows[customer + 1].starts_with("  json-transform"), "{table}");
    assert!(rows[customer + 2].starts_with("  text-index"), "{table}");
    let said = &ran.stderr;
    for part in [
        "burst: goes on with",
        "of what standby leaves idle",
        "standby: wants back what it lent",
        "standby: waits for memory",
        "standby: waits no longer",
        "standby: has all it lent to burst back",
    ] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

#[test]
fn the_bundled_scenario_as_json() {
    let report = Folder::new().host(&["--json", "--quiet"]).ended(0, &[]).json();
    sound(&report);
    let node = |name: &str| {
        let nodes = report["crates"].as_array().unwrap();
        nodes.iter().find(|node| node["name"] == name).unwrap_or_else(|| panic!("no {name} in {report:#}"))
    };
    let denials = |name: &str| {
        node(name)["denials"]["limit"].as_u64().unwrap() + node(name)["denials"]["pool"].as_u64().unwrap()
    };
    assert!(denials("hog") > 0 && denials("leaker") > 0 && denials("refused_forever") >= 100_000);
    assert!(node("leaker")["denials"]["pool"].as_u64() > Some(0), "the pool is smaller than what is wanted");
    assert_eq!(denials("text-index"), 0);
    let sharing = &report["sharing"];
    assert!(sharing["loans"].as_u64() > Some(0), "{sharing}");
    assert_eq!(sharing["loans"], sharing["repaid"]);
    assert_eq!(denials("standby"), 0, "what it is guaranteed it gets, if it has to wait for it");
    assert_eq!(report["waits"]["begun"], report["waits"]["granted"]);
    assert!(report["waits"]["granted"].as_u64() > Some(0));
    let guests = report["guests"].as_array().unwrap();
    assert!(guests.iter().any(|guest| guest["kind"] == "component"));
    assert!(guests.iter().any(|guest| guest["instances"].as_u64() > Some(1)));
    let wanted: u64 =
        report["crates"].as_array().unwrap().iter().map(|node| node["limit"].as_u64().unwrap()).sum();
    assert!(wanted > report["pool"]["limit"].as_u64().unwrap());
}

#[test]
fn a_scenario_file() {
    let folder = Folder::new();
    folder.wat("hog");
    folder.wat("leaker");
    folder.real("markdown");
    folder.file("in.md", "# Title\n");
    let scenario = folder.file(
        "three.toml",
        r#"
        pool = "8MiB"
        [[guest]]
        wasm = "hog.wat"
        limit = "1MiB"
        instances = 2
        [[guest]]
        wasm = "leaker.wat"
        name = "slow leak"
        limit = 131072
        invoke = "step"
        repeat = 3
        [[guest]]
        wasm = "markdown.wasm"
        stdin = "in.md"
        guarantee = "2MiB"
        assert-peak = "4MiB"
        "#,
    );
    let scenario = scenario.to_str().unwrap();
    // From elsewhere: the paths in it are relative to it.
    let elsewhere = Folder::new();
    let ran = elsewhere.host(&["--scenario", scenario]).ended(0, &[]);
    assert!(ran.stdout().contains("markdown | <h1>Title</h1>"), "{}", ran.stdout());
    assert!(ran.stdout().contains("every byte is back in the pool"), "{}", ran.stdout());
    let report =
        elsewhere.host(&["run", "--scenario", scenario, "--json"]).ended(0, &["<h1>Title</h1>"]).json();
    sound(&report);
    let peaks: Vec<&Value> =
        report["crates"].as_array().unwrap().iter().map(|node| &node["high_water"]).collect();
    assert_eq!((peaks[0], peaks[1]), (&(1 << 20).into(), &131_072.into()));
    assert_eq!(report["guests"][1]["name"], "slow leak");
    assert_eq!(report["guests"][1]["runs"][0]["value"], "-1");
}

#[test]
fn a_scenario_file_with_a_mistake() {
    let folder = Folder::new();
    folder.wat("hog");
    let error = |text: &str, code: i32, said: &[&str]| {
        folder.file("bad.toml", text);
        folder.host(&["--scenario", "bad.toml"]).ended(code, said);
    };
    error(
        "[[guest]]\nwasm = \"hog.wat\"\nlimt = \"1MiB\"\n",
        2,
        &["bad.toml", "line 3", "unknown field `limt`", "did you mean `limit`?"],
    );
    error("[[guest]]\nwasm = \"hog.wat\"\nlimit = \"1MuB\"\n", 2, &["bad.toml", "line 3", "no unit `MuB`"]);
    error(
        "[[guest]]\nwasm = \"hog.wat\"\nlimit = \"1KiB\"\nguarantee = \"1MiB\"\n",
        2,
        &["below the guarantee"],
    );
    error("[[guest]\n", 2, &["bad.toml", "line 1"]);
    error("[[guest]]\nwasm = \"absent.wat\"\n", 127, &["absent.wat: No such file"]);
    error("[[guest]]\nwasm = \"hog.wat\"\nstdin = \"absent\"\n", 125, &["absent"]);
    folder.host(&["--scenario", "absent.toml"]).ended(2, &["absent.toml: No such file"]);
    folder.host(&["run", "--scenario", "bad.toml", "--limit", "1MiB"]).ended(2, &["cannot be used with"]);
}

#[test]
fn the_bundled_scenario_under_wasmi() {
    let ran = Folder::new().host(&["--runtime", "wasmi"]).ended(0, &["left out: markdown"]);
    assert!(ran.stdout().ends_with("every byte is back in the pool\n"), "{}", ran.stdout());
    let report = Folder::new().host(&["--runtime", "wasmi", "--json", "--quiet"]).ended(0, &[]).json();
    sound(&report);
    assert_eq!((&report["runtime"], report["guests"].as_array().unwrap().len()), (&"wasmi".into(), 7));
}
