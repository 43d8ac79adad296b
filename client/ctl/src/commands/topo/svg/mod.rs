//! The hierarchy as a picture: root buses on the left, devices on the right, one box a function.

mod layout;
pub(in crate::commands) mod text;

use std::collections::BTreeSet;

use peermem_topology::{PathReport, Snapshot, Turn, Verdict};

use self::{
    layout::{BOX, Layout, MARGIN, Placed},
    text::{LINE, element, escape, wrap},
};
use super::{
    hierarchy::{Hierarchy, Place},
    pair,
};

/// Colours for a light background, and for a dark one where the reader's browser asks for that.
const STYLE: &str = "\
:root{--ground:#fff;--ink:#1b1f24;--soft:#57606a;--line:#8c959f;--box:#f6f8fa;--mark:#0757ba;--tint:#ddf4ff;--bad:#c4161c;--pale:#ffebe9;background:var(--ground)}
@media(prefers-color-scheme:dark){:root{--ground:#0d1117;--ink:#e6edf3;--soft:#9ea7b3;--line:#6e7681;--box:#161b22;\
--mark:#58a6ff;--tint:#0c2d5b;--bad:#ff7b72;--pale:#4b1a1a}}
text{font-family:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:12px;fill:var(--ink)}
.title{font-weight:bold}.soft{fill:var(--soft)}.ground{fill:var(--ground)}
.box{fill:var(--box);stroke:var(--line)}.edge{fill:none;stroke:var(--line)}
.way{stroke:var(--mark);stroke-width:3}.box.way{fill:var(--tint);stroke-width:2}
.refused{stroke:var(--bad);stroke-dasharray:7 4}.box.refused{fill:var(--pale)}.box.end{stroke-width:4}
";

/// The picture, with the way of `pair` marked.
pub(super) fn draw(snapshot: &Snapshot, hierarchy: &Hierarchy, pair: Option<&PathReport>) -> String {
    let heading = pair.map_or_else(Vec::new, |report| heading(snapshot, report));
    let top = MARGIN + LINE * heading.len();
    let layout = Layout::new(hierarchy, top);
    let marks = Marks::new(pair);

    let (width, height) = (layout.width, layout.height);
    let mut svg = vec![
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">"#
        ),
        format!("<style>{STYLE}</style>"),
        r#"<rect class="ground" width="100%" height="100%"/>"#.to_owned(),
    ];
    for (i, (class, line)) in heading.iter().enumerate() {
        svg.push(element(MARGIN, MARGIN + LINE * i, class, line));
    }
    // What is marked lies above what isn't, and boxes above lines.
    let (marked, plain): (Vec<_>, Vec<_>) =
        layout.boxes.iter().filter(|placed| placed.parent.is_some()).partition(|placed| marks.edge(placed));
    svg.extend(plain.iter().filter_map(|placed| edge(placed, "edge")));
    svg.extend(marked.iter().filter_map(|placed| edge(placed, &marks.class("edge"))));
    svg.extend(across(&layout, &marks));
    svg.extend(layout.boxes.iter().map(|placed| node(placed, &marks)));
    svg.push("</svg>\n".to_owned());
    svg.join("\n")
}

/// Who it is about, the verdict, and what slows the way.
fn heading(snapshot: &Snapshot, report: &PathReport) -> Vec<(&'static str, String)> {
    let mut lines = vec![("title", pair::heading(snapshot, report))];
    lines.extend(wrap(&report.reason).into_iter().map(|line| ("soft", line)));
    lines.extend(
        wrap(&format!("bottleneck: {}", pair::bottleneck(report))).into_iter().map(|line| ("soft", line)),
    );
    lines.push(("soft", String::new()));
    lines
}

/// What the way of a pair passes.
struct Marks {
    /// Boxes whose line to the box above is on the way.
    edges: BTreeSet<Place>,
    /// Boxes on the way.
    boxes: BTreeSet<Place>,
    /// The two devices themselves.
    ends: BTreeSet<Place>,
    /// Two root boxes, if the way crosses from one to the other.
    across: Option<[Place; 2]>,
    refused: bool,
}

impl Marks {
    fn new(pair: Option<&PathReport>) -> Self {
        let Some(report) = pair else {
            let none = BTreeSet::new;
            return Self { edges: none(), boxes: none(), ends: none(), across: None, refused: false };
        };
        let mut edges: BTreeSet<_> =
            report.up.iter().chain(&report.down).map(|&function| Place::Function(function)).collect();
        let initiator = match &report.initiator {
            peermem::proto::Initiator::Rdma(name) if matches!(report.turn, Some(Turn::Cpu(_))) => {
                edges.insert(Place::Rdma(name.clone()));
                Some(Place::Rdma(name.clone()))
            }
            _ => report.down.last().map(|&function| Place::Function(function)),
        };
        let (turns, across) = match report.turn {
            None => (Vec::new(), None),
            Some(Turn::Function(bridge)) => (vec![Place::Function(bridge)], None),
            Some(Turn::HostBridge(root)) => (vec![Place::Root(root)], None),
            Some(Turn::HostBridges(one, other)) => {
                let both = [Place::Root(one), Place::Root(other)];
                (both.to_vec(), Some(both))
            }
            Some(Turn::Cpu(root)) => {
                let both = [Place::Root(root), Place::Software];
                (both.to_vec(), Some(both))
            }
        };
        Self {
            boxes: edges.iter().cloned().chain(turns).collect(),
            ends: [Some(Place::Function(report.provider)), initiator].into_iter().flatten().collect(),
            edges,
            across,
            refused: matches!(report.verdict, Verdict::Refused(_)),
        }
    }

    fn edge(&self, placed: &Placed<'_>) -> bool {
        self.edges.contains(&placed.node.place)
    }

    fn class(&self, of: &str) -> String {
        format!("{of} way{}", if self.refused { " refused" } else { "" })
    }
}

/// The line from a box to the one above it.
fn edge(placed: &Placed<'_>, class: &str) -> Option<String> {
    let (from_x, from_y) = placed.parent?;
    let (x, y) = (placed.x, placed.y + BOX.height / 2);
    let bend = x - BOX.gap_x / 2;
    Some(format!(r#"<path class="{class}" d="M{} {from_y}H{bend}V{y}H{x}"/>"#, from_x + BOX.width))
}

/// The line between two root boxes, on their left.
fn across(layout: &Layout<'_>, marks: &Marks) -> Option<String> {
    let [one, other] = marks.across.as_ref()?;
    let middle = |place: &Place| {
        let placed = layout.boxes.iter().find(|placed| placed.node.place == *place)?;
        Some((placed.x, placed.y + BOX.height / 2))
    };
    let ((x, from), (_, to)) = (middle(one)?, middle(other)?);
    Some(format!(r#"<path class="{}" d="M{x} {from}H{}V{to}H{x}"/>"#, marks.class("edge"), x - MARGIN / 2))
}

fn node(placed: &Placed<'_>, marks: &Marks) -> String {
    let (node, x, y) = (placed.node, placed.x, placed.y);
    let place = &node.place;
    let class = match (marks.boxes.contains(place), marks.ends.contains(place)) {
        (_, true) => format!("{} end", marks.class("box")),
        (true, false) => marks.class("box"),
        (false, false) => "box".to_owned(),
    };
    let (title, kind) = match node.names.as_str() {
        "" => (node.address.clone(), node.kind.clone()),
        names => (names.to_owned(), format!("{} {}", node.address, node.kind)),
    };
    let remarks: Vec<_> = node.remarks.iter().cloned().chain(node.others()).collect();
    let tip = escape(&[title.clone(), kind.clone(), remarks.join(", ")].join("\n"));
    let lines = [("title", title), ("soft", kind)];
    let lines = lines.into_iter().chain(text::fill(&remarks).into_iter().take(2).map(|line| ("", line)));
    let text: Vec<_> = lines
        .enumerate()
        .map(|(i, (class, line))| element(x + 10, y + 6 + LINE * i, class, &text::cut(&line)))
        .collect();
    format!(
        r#"<g><title>{tip}</title><rect class="{class}" x="{x}" y="{y}" width="{}" height="{}" rx="5"/>{}</g>"#,
        BOX.width,
        BOX.height,
        text.concat()
    )
}
