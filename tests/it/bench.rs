//! `bench`, small: that its figures are about whole runs over the same bytes. How good they are is
//! not for a test to say.

use std::process::{Command, Output};

use crate::outputs::assert_follows;

/// Figures as a script reads them, held against their schema.
#[test]
fn a_script_reads_the_figures_as_their_schemas_say() {
    for (schema, arguments) in [
        (
            "bench",
            &["--rows", "500", "--latency", "1", "--output", "json"] as &[&str],
        ),
        (
            "bench-tenants",
            &[
                "--of",
                "tenants",
                "--tenants",
                "2",
                "--streams",
                "1",
                "--output",
                "json",
            ],
        ),
    ] {
        let output = once(arguments);
        assert!(output.status.success(), "{output:?}");
        assert_follows(schema, &String::from_utf8(output.stdout).unwrap());
    }
}

fn bench(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sentinel-connector"))
        .arg("bench")
        .args(arguments)
        .env_clear()
        .env("CONNECTOR_DATA", folder.path())
        .current_dir(folder.path())
        .output()
        .unwrap();
    let left: Vec<_> = folder.path().read_dir().unwrap().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    output
}

/// The same, measured once.
fn once(arguments: &[&str]) -> Output {
    bench(&[arguments, &["--rounds", "1"]].concat())
}

/// The lines of an output that ended well, in words.
fn lines(output: &Output) -> Vec<String> {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(str::to_owned).collect()
}

/// The number before `what` in the line that follows the one of `run`.
fn figure(lines: &[String], run: &str, what: &str) -> u64 {
    let at = lines.iter().position(|line| line.starts_with(run)).unwrap();
    let line = lines[at..at + 2].join(" ");
    let before = line.split(what).next().unwrap();
    let number = before.split_whitespace().last().unwrap();
    number
        .trim_start_matches('(')
        .replace(',', "")
        .parse()
        .unwrap()
}

/// Both runs read the same records, and every line is there.
fn is_whole(lines: &[String]) {
    for start in ["pull ", "reference ", "ratio ", "complete    yes", "serve "] {
        let says = lines.iter().any(|line| line.starts_with(start));
        assert!(says, "no `{start}` in {lines:#?}");
    }
    let bytes = |run| figure(lines, run, " bytes of records in");
    assert_eq!(bytes("pull"), bytes("reference"));
}

#[test]
fn both_runs_read_the_same_bytes_and_lose_nothing() {
    let lines = lines(&bench(&[
        "--rows",
        "2300",
        "--latency",
        "1",
        "--rounds",
        "2",
        "--enrich",
        "none",
    ]));
    is_whole(&lines);
    assert!(lines.iter().any(|line| line.starts_with("latency ")));
    assert!(figure(&lines, "pull", " bytes of records in") > 2_300 * 2_400);
    // Three pages each; the pipeline asks the feed as well, before and after.
    assert_eq!(figure(&lines, "reference", " to ESET"), 3);
    assert_eq!(figure(&lines, "pull", " to ESET"), 5);
}

#[test]
fn detections_are_measured_with_their_details_unless_somebody_says_otherwise() {
    let by_id = lines(&once(&["--rows", "2300"]));
    is_whole(&by_id);
    assert!(by_id[0].contains("`ESET_ENRICH` all"), "{}", by_id[0]);
    assert!(by_id[0].contains("limits of calls off"), "{}", by_id[0]);
    let by_list = lines(&once(&["--rows", "2300", "--v2-list", "--limited"]));
    is_whole(&by_list);
    assert!(
        by_list[0].contains("limits of calls as set"),
        "{}",
        by_list[0]
    );
    let calls = |lines: &[String]| figure(lines, "pull", " to ESET");
    assert!(calls(&by_id) >= 5 + 23, "{by_id:#?}");
    assert!(calls(&by_list) <= 10, "{by_list:#?}");
}

#[test]
fn the_files_of_an_export_arrive_to_the_last_row() {
    let lines = lines(&once(&[
        "--of",
        "export",
        "--rows",
        "100700",
        "--latency",
        "1",
    ]));
    is_whole(&lines);
    // The list, and two files; the pipeline asks for what has changed since as well.
    assert_eq!(figure(&lines, "reference", " to Defender"), 3);
    assert_eq!(figure(&lines, "pull", " to Defender"), 4);
}

#[test]
fn answers_of_hunting_arrive_whole() {
    let lines = lines(&once(&["--of", "hunting", "--rows", "31000"]));
    is_whole(&lines);
    // A window for each hour of a day; the pipeline finds out which time to go by as well, and its
    // last window ends a little before now.
    assert_eq!(figure(&lines, "reference", " to Defender"), 24);
    assert_eq!(figure(&lines, "pull", " to Defender"), 25);
}

#[test]
fn machines_that_are_as_they_were_write_nothing() {
    let lines = lines(&once(&["--of", "machines", "--rows", "11003"]));
    is_whole(&lines);
    // A last page of a round length might be clamped, and would be asked behind.
    assert_eq!(figure(&lines, "pull", " to Defender"), 2);
    // What the run says about itself.
    assert_eq!(figure(&lines, "pull", " pushes"), 1);
}

#[test]
fn the_reference_runs_alone_when_it_is_asked_for() {
    let lines = lines(&once(&["--rows", "1", "--reference"]));
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert_eq!(figure(&lines, "reference", " pushes"), 1);
}

#[test]
fn tenants_are_run_side_by_side_and_a_tenth_of_them_one_by_one() {
    let arguments = "--of tenants --tenants 3 --streams 2 --latency 1";
    let output = bench(&arguments.split(' ').collect::<Vec<_>>());
    let lines = lines(&output);
    let [first, all, one, ratio, look] = &lines[..] else {
        panic!("{lines:#?}")
    };
    assert!(
        first.starts_with("3 tenants with 2 streams each, 1 ms"),
        "{first}"
    );
    let records = |line: &str| -> u64 {
        let count = line.strip_suffix(" records").unwrap();
        count.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(all.starts_with("side by side  3 tenants in "), "{all}");
    assert!(one.starts_with("one by one    1 tenants in "), "{one}");
    assert!(records(one) > 0);
    assert_eq!(records(all), 3 * records(one));
    assert!(ratio.starts_with("ratio "), "{ratio}");
    assert!(look.starts_with("look          check "), "{look}");
}
