//! Where each box goes: depth decides the column; leaves have a row each, and what is above them is in their middle.

use crate::commands::topo::hierarchy::{Hierarchy, Node};

/// Around the picture, in pixels.
pub(super) const MARGIN: usize = 28;
/// Wide enough for a heading, in pixels.
const LEAST_WIDTH: usize = 860;

/// The measures of boxes, in pixels.
pub(super) struct Measures {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) gap_x: usize,
    gap_y: usize,
}

pub(super) const BOX: Measures = Measures { width: 250, height: 80, gap_x: 36, gap_y: 12 };

/// A node and its box's top left corner.
pub(super) struct Placed<'a> {
    pub(super) node: &'a Node,
    pub(super) x: usize,
    pub(super) y: usize,
    /// The left edge of the box above it, and its middle.
    pub(super) parent: Option<(usize, usize)>,
}

/// All boxes, and the picture's size.
pub(super) struct Layout<'a> {
    pub(super) boxes: Vec<Placed<'a>>,
    pub(super) width: usize,
    pub(super) height: usize,
}

impl<'a> Layout<'a> {
    /// Boxes from `top` down.
    pub(super) fn new(hierarchy: &'a Hierarchy, top: usize) -> Self {
        let mut layout = Self { boxes: Vec::new(), width: LEAST_WIDTH, height: top };
        for root in &hierarchy.roots {
            layout.place(root, 0);
        }
        layout.height += MARGIN;
        layout
    }

    /// Places a node with all below it, and says which box is its own.
    fn place(&mut self, node: &'a Node, depth: usize) -> usize {
        let x = MARGIN + depth * (BOX.width + BOX.gap_x);
        self.width = self.width.max(x + BOX.width + MARGIN);
        let children: Vec<_> = node.children.iter().map(|child| self.place(child, depth + 1)).collect();
        let y = match (children.first(), children.last()) {
            (Some(&first), Some(&last)) => (self.boxes[first].y + self.boxes[last].y) / 2,
            _ => {
                let y = self.height;
                self.height += BOX.height + BOX.gap_y;
                y
            }
        };
        for child in children {
            self.boxes[child].parent = Some((x, y + BOX.height / 2));
        }
        self.boxes.push(Placed { node, x, y, parent: None });
        self.boxes.len() - 1
    }
}
