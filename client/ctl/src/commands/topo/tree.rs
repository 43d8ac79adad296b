//! The hierarchy as text.

use super::hierarchy::{Hierarchy, Node};

/// One line a node.
pub(super) fn text(hierarchy: &Hierarchy) -> String {
    let mut lines = Vec::new();
    for root in &hierarchy.roots {
        lines.push(line(root));
        below(root, "", &mut lines);
    }
    if lines.is_empty() {
        return "this machine has no PCI device that gives memory or does DMA to others' memory".to_owned();
    }
    lines.join("\n")
}

fn below(node: &Node, indent: &str, lines: &mut Vec<String>) {
    let rest = node.others();
    let count = node.children.len() + usize::from(rest.is_some());
    let mut branch = |i: usize, text: &str, child: Option<&Node>| {
        let (knot, stem) = if i + 1 == count { ("└── ", "    ") } else { ("├── ", "│   ") };
        lines.push(format!("{indent}{knot}{text}"));
        if let Some(child) = child {
            below(child, &format!("{indent}{stem}"), lines);
        }
    };
    for (i, child) in node.children.iter().enumerate() {
        branch(i, &line(child), Some(child));
    }
    if let Some(rest) = rest {
        branch(count - 1, &format!("({rest})"), None);
    }
}

fn line(node: &Node) -> String {
    let place = [node.address.as_str(), &node.kind].join(" ");
    let parts = [place.trim_end(), &node.names, &node.remarks.join(", ")].map(str::to_owned);
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
}
