//! `peermemctl topo` over trees that were recorded or composed by hand; no daemon runs.
#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, path::PathBuf, process::Output};

use serde_json::Value;

fn tree(name: &str) -> PathBuf {
    let trees = concat!(env!("CARGO_MANIFEST_DIR"), "/../../daemon/topology/tests/trees");
    PathBuf::from(trees).join(format!("{name}.json"))
}

fn topo(name: &str, arguments: &[&str]) -> Output {
    let mut command = support::ctl("/nonexistent".as_ref());
    command.args(["topo", "--snapshot"]).arg(tree(name)).args(arguments).output().unwrap()
}

fn text(name: &str, arguments: &[&str]) -> String {
    let output = topo(name, arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The matrix's rows, in words; the cells of a row, by the heading's columns.
fn cells(matrix: &str) -> Vec<Vec<String>> {
    let lines = matrix.lines().take_while(|line| !line.is_empty());
    let cells = |line: &str| {
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
    };
    lines.map(cells).collect()
}

#[test]
fn the_matrix() {
    let matrix = text("cascaded_switches", &[]);
    assert_eq!(
        cells(&matrix),
        [
            vec!["provider", "memory", "mlx5_0", "mlx5_1", "renderD128", "nvme0", "renderD129", "nvme1"],
            vec![
                "0000:45:00.0 renderD128",
                "gpu BAR0 256GiB",
                "BUS 4",
                "BUS 8",
                "BUS 0",
                "BUS 4",
                "BUS 8",
                "BUS 8"
            ],
            vec![
                "0000:55:00.0 renderD129",
                "gpu BAR0 256GiB",
                "BUS 8",
                "BUS 4",
                "BUS 8",
                "BUS 8",
                "BUS 0",
                "BUS 4"
            ],
        ]
    );
    assert!(matrix.contains("BUS      inside one PCIe hierarchy") && !matrix.contains("X hb"), "{matrix}");
}

#[test]
fn every_kind_of_cell_has_its_legend() {
    for (name, row, expected) in [
        ("two_sockets", 1, &["HB", "HB numa"][..]),
        ("redirecting_switch", 1, &["HB acs", "BUS 0"]),
        ("multi_function", 1, &["X hb", "X hb", "X hb", "BUS 0"]),
        ("vmd", 1, &["HB", "BUS 0", "HB"]),
    ] {
        let matrix = text(name, &[]);
        let cells = cells(&matrix);
        assert_eq!(cells[row][2..][..expected.len()], *expected, "{matrix}");
        for cell in &cells[row][2..] {
            let code = if cell.starts_with("BUS") { "BUS" } else { cell };
            assert!(matrix.lines().any(|line| line.starts_with(&format!("{code:8} "))), "{code}: {matrix}");
        }
    }
}

#[test]
fn what_could_not_be_seen_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("unprivileged.json");
    let unprivileged =
        fs::read_to_string(tree("slow_link")).unwrap().replace(r#"{"control": "0x0000"}"#, r#""unreadable""#);
    fs::write(&file, unprivileged).unwrap();
    let output =
        support::ctl("/nonexistent".as_ref()).args(["topo", "--snapshot"]).arg(&file).output().unwrap();
    let matrix = String::from_utf8(output.stdout).unwrap();
    assert_eq!(cells(&matrix)[1][2], "BUS? 4");
    assert!(matrix.contains("ACS of 2 functions was not readable"), "{matrix}");
}

#[test]
fn a_machine_with_nothing_to_give_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("empty.json");
    fs::write(&file, r#"{"cpu": null, "functions": {}, "rdma": {}}"#).unwrap();
    for (form, words) in [(&[][..], "no function that gives memory"), (&["--tree"], "no PCI device")] {
        let mut command = support::ctl("/nonexistent".as_ref());
        let output = command.args(["topo", "--snapshot"]).arg(&file).args(form).output().unwrap();
        assert!(String::from_utf8(output.stdout).unwrap().contains(words), "{form:?}");
    }
}

#[test]
fn the_tree() {
    let tree = text("slow_link", &["--tree"]);
    let lines: Vec<_> = tree.lines().collect();
    assert_eq!(
        lines,
        [
            "root bus 0000:60 host bridge 8086:09a2  NUMA node 0",
            "├── 0000:60:02.0 root port",
            "│   └── 0000:61:00.0 upstream port  16.0 GT/s x16",
            "│       ├── 0000:62:00.0 downstream port",
            "│       │   └── 0000:63:00.0 3D controller  renderD128  gpu BAR1 64GiB, 16.0 GT/s x16",
            "│       └── 0000:62:04.0 downstream port",
            "│           └── 0000:64:00.0 network  mlx5_0  16.0 GT/s x4 of x8, ens7np0",
            "└── (1 other function)",
        ]
    );
}

#[test]
fn a_pair_in_full_by_any_name() {
    for (provider, initiator) in
        [("renderD128", "mlx5_0"), ("0000:63:00.0", "rdma:mlx5_0"), ("pci:0000:63:00.0", "rdma:mlx5_0")]
    {
        let text = text("slow_link", &["--pair", provider, initiator]);
        for line in [
            "verdict     bus address",
            "reason      both are below 0000:61:00.0, and no port on the way redirects",
            "distance    4 hops",
            "way         0000:63:00.0 ↑ 0000:62:00.0 ↑ [0000:61:00.0] ↓ 0000:62:04.0 ↓ 0000:64:00.0",
            "bottleneck  0000:62:04.0 – 0000:64:00.0 at 16.0 GT/s x4 (7.8 GB/s each way), below its 16.0 GT/s x8",
            "NUMA        both on node 0",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
    let refused = text("multi_function", &["--pair", "card0", "mlx5_0"]);
    assert!(refused.contains("verdict     refused") && refused.contains("8086:3ec2"), "{refused}");
    let across = text("two_sockets", &["--pair", "renderD128", "nvme1"]);
    assert!(across.contains("[host bridge 0000:15] → [host bridge 0000:95]"), "{across}");
    assert!(across.contains("from node 0 to node 1"), "{across}");
}

#[test]
fn json_has_the_snapshot_and_every_pair() {
    let matrix: Value = serde_json::from_str(&text("slow_link", &["--json"])).unwrap();
    assert_eq!(matrix["schema"], 1);
    let recorded: Value = serde_json::from_str(&fs::read_to_string(tree("slow_link")).unwrap()).unwrap();
    assert_eq!(matrix["snapshot"], recorded);
    assert_eq!(matrix["providers"][0]["memory"][0], "gpu");
    assert_eq!(matrix["pairs"].as_array().unwrap().len(), 2);

    let pair: Value =
        serde_json::from_str(&text("slow_link", &["--json", "--pair", "renderD128", "mlx5_0"])).unwrap();
    assert_eq!(pair, matrix["pairs"][0]);
    assert_eq!(pair["verdict"]["accepted"]["kind"], "bus_address");
    assert_eq!(pair["bottleneck"]["bandwidth"], 7_876_923_072_u64);
}

#[test]
fn the_picture_marks_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("topology.svg");
    let draw = |name: &str, pair: &[&str]| {
        let svg = ["--svg", file.to_str().unwrap()];
        assert!(topo(name, &[&svg[..], pair].concat()).status.success());
        fs::read_to_string(&file).unwrap()
    };
    let count = |svg: &str, what: &str| svg.matches(what).count();

    let plain = draw("cascaded_switches", &[]);
    assert!(plain.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""), "{plain}");
    assert_eq!((count(&plain, "<g>"), count(&plain, "<path")), (19, 18), "a line to each box but the root's");
    assert_eq!(count(&plain, "class=\"edge way"), 0);

    let marked = draw("cascaded_switches", &["--pair", "renderD128", "nvme1"]);
    assert_eq!(count(&marked, "class=\"edge way\""), 8, "as many as there are hops");
    assert_eq!((count(&marked, "\"box way\""), count(&marked, "\"box way end\"")), (7, 2));

    let refused = draw("multi_function", &["--pair", "card0", "mlx5_0"]);
    assert_eq!(count(&refused, "class=\"edge way refused\""), 4);
    let across = draw("two_sockets", &["--pair", "renderD128", "mlx5_1"]);
    assert_eq!(count(&across, "class=\"edge way\""), 5, "two up, one across, two down");
}

#[test]
fn this_machine_can_be_recorded_and_asked_about() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("here.json");
    let record =
        support::ctl("/nonexistent".as_ref()).args(["topo", "--record"]).arg(&file).output().unwrap();
    assert!(record.status.success(), "{record:?}");
    for form in [&[][..], &["--tree"], &["--json"]] {
        let mut command = support::ctl("/nonexistent".as_ref());
        let output = command.args(["topo", "--snapshot"]).arg(&file).args(form).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn what_it_refuses() {
    let code = |output: Output| (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap());
    let (exit, error) = code(topo("slow_link", &["--pair", "nvme7", "mlx5_0"]));
    assert!(exit == 2 && error.contains("no device is called \"nvme7\""), "{error}");
    let (exit, _) = code(topo("slow_link", &["--pair", "0000:63:00.0", "0000:7f:00.0"]));
    assert_eq!(exit, 2);
    let (exit, _) = code(topo("slow_link", &["--pair", "renderD128"]));
    assert_eq!(exit, 2);
    let (exit, error) = code(topo("no_such_tree", &[]));
    assert!(exit == 1 && error.contains("can't read the snapshot"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.json");
    for wrong in ["", "[]", r#"{"cpu": null, "functions": {}, "rdma": {}, "x": 1}"#] {
        fs::write(&file, wrong).unwrap();
        let mut command = support::ctl("/nonexistent".as_ref());
        let (exit, error) = code(command.args(["topo", "--snapshot"]).arg(&file).output().unwrap());
        assert!(exit == 1 && error.contains("wrong.json"), "{wrong}: {error}");
    }
}
