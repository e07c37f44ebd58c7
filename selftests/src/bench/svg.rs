// SPDX-License-Identifier: GPL-2.0

//! Drawings as SVG files that can be read on light and on dark pages.

use std::fmt::{Display, Write};

/// Colours have names; those that look at the drawing decide between light and dark.
const STYLE: &str = "
    text { font: 13px system-ui, sans-serif; fill: #1f2328; }
    .title { font-size: 16px; font-weight: 600; }
    .page { fill: #ffffff; }
    .quiet { fill: #59636e; }
    .grid { stroke: #d1d9e0; stroke-width: 1; }
    .goal { stroke: #59636e; stroke-width: 1.5; stroke-dasharray: 5 4; }
    .good, .good-line { fill: #0969da; stroke: #0969da; }
    .bad, .other-line { fill: #bc4c00; stroke: #bc4c00; }
    .good, .bad { stroke: none; }
    .good-line, .other-line { fill: none; stroke-width: 2; }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc; }
      .page { fill: #0d1117; }
      .quiet { fill: #9198a1; }
      .grid { stroke: #3d444d; }
      .goal { stroke: #9198a1; }
      .good { fill: #4493f8; }
      .bad { fill: #f0883e; }
      .good-line { stroke: #4493f8; }
      .other-line { stroke: #f0883e; }
    }
";

/// Where a text's position is in it.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

#[derive(Clone, Copy)]
pub struct Point {
    pub x: f64,
    pub y: f64,
}

pub fn at(x: f64, y: f64) -> Point {
    Point { x, y }
}

pub struct Drawing {
    elements: String,
    width: f64,
    height: f64,
    title: String,
}

/// A logarithmic scale with 1 at `middle`, and `furthest` times as much `half` to the right of it.
/// What is further off is drawn there.
pub struct Scale {
    pub middle: f64,
    pub half: f64,
    pub furthest: f64,
}

impl Scale {
    pub fn x(&self, ratio: f64) -> f64 {
        let clamped = ratio.clamp(1.0 / self.furthest, self.furthest);
        self.middle + self.half * clamped.log2() / self.furthest.log2()
    }
}

/// For text and attributes of XML.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            _ => escaped.push(character),
        }
    }
    escaped
}

impl Drawing {
    pub fn new(width: f64, height: f64, title: &str) -> Drawing {
        let mut drawing = Drawing {
            elements: String::new(),
            width,
            height,
            title: escape(title),
        };
        drawing.rectangle(at(0.0, 0.0), at(width, height), "page");
        drawing.text(at(16.0, 28.0), Anchor::Start, "title", title);
        drawing
    }

    fn push(&mut self, element: impl Display) {
        let _ = writeln!(self.elements, "  {element}");
    }

    /// Between two opposite corners.
    pub fn rectangle(&mut self, a: Point, b: Point, class: &str) {
        self.push(format_args!(
            "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
            a.x.min(b.x),
            a.y.min(b.y),
            (a.x - b.x).abs(),
            (a.y - b.y).abs()
        ));
    }

    pub fn line(&mut self, a: Point, b: Point, class: &str) {
        self.push(format_args!(
            "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
            a.x, a.y, b.x, b.y
        ));
    }

    pub fn dot(&mut self, centre: Point, class: &str) {
        self.push(format_args!(
            "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"/>",
            centre.x, centre.y
        ));
    }

    pub fn text(&mut self, position: Point, anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.push(format_args!(
            "<text class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            position.x,
            position.y,
            escape(text)
        ));
    }

    pub fn finish(self) -> String {
        let (width, height) = (self.width, self.height);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\">\n\
             <title>{}</title>\n<style>{STYLE}</style>\n{}</svg>\n",
            self.title, self.elements
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_understands_is_escaped() {
        assert_eq!(
            escape(r#"a < b & "c" > 'd' ≥"#),
            "a &lt; b &amp; &quot;c&quot; &gt; &#39;d&#39; ≥"
        );
    }

    #[test]
    fn a_drawing_is_one_element_with_escaped_texts() {
        let mut drawing = Drawing::new(100.0, 50.0, "a & b");
        drawing.text(at(1.0, 2.0), Anchor::End, "quiet", "<4 KiB>");
        let text = drawing.finish();
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
        assert!(text.contains("<title>a &amp; b</title>"));
        assert!(text.contains(">&lt;4 KiB&gt;</text>"));
        assert!(!text.contains("<4 KiB>"));
    }

    #[test]
    fn a_rectangle_has_no_negative_size() {
        let mut drawing = Drawing::new(100.0, 50.0, "");
        drawing.rectangle(at(30.0, 5.0), at(10.0, 2.0), "good");
        let text = drawing.finish();
        assert!(text.contains(r#"x="10.0" y="2.0" width="20.0" height="3.0""#));
    }
}
