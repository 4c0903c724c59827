//! The chart: horizontal bars in panels, as SVG that is legible on light and on dark ground.

use std::fmt::Write as _;

use crate::findings::{Bar, Findings, Panel};

const WIDTH: u32 = 840;
const LABELS_WIDTH: u32 = 250;
const BARS_WIDTH: f64 = 440.0;
const BAR_HEIGHT: u32 = 18;
const LINE_HEIGHT: u32 = 26;
const TITLE_HEIGHT: u32 = 34;
const PANEL_GAP: u32 = 14;
/// Of a value that is next to nothing.
const BAR_WIDTH_MIN: f64 = 1.5;

const STYLE: &str = "\
text { font: 13px system-ui, sans-serif; fill: #24292f } \
.title { font-weight: 600; font-size: 14px } \
.other { fill: #8c959f } .ours { fill: #0a7ea4 } .beyond { opacity: 0.35 } \
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .other { fill: #7d8590 } .ours { fill: #39b0d6 } }";

/// Draws every panel, one below the other.
pub(super) fn svg<'a>(findings: impl IntoIterator<Item = &'a Findings>) -> String {
    let panels: Vec<_> =
        findings.into_iter().flat_map(|found| &found.panels).filter(|panel| !panel.bars.is_empty()).collect();
    let (mut drawn, mut top) = (String::new(), 0);
    for panel in panels {
        draw_panel(&mut drawn, panel, top);
        top += TITLE_HEIGHT + LINE_HEIGHT * u32::try_from(panel.bars.len()).unwrap_or(0) + PANEL_GAP;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {top}\" width=\"{WIDTH}\" height=\"{top}\" \
         role=\"img\">\n<title>Tailrace's relay, measured</title>\n<style>{STYLE}</style>\n{drawn}</svg>\n"
    )
}

fn draw_panel(drawn: &mut String, panel: &Panel, top: u32) {
    let end = |bar: &Bar| bar.beyond.unwrap_or(bar.value).max(bar.value);
    let greatest = panel.bars.iter().map(end).fold(f64::MIN_POSITIVE, f64::max);
    let width = |value: f64| (value / greatest * BARS_WIDTH).max(BAR_WIDTH_MIN);
    let _ =
        writeln!(drawn, "<text class=\"title\" x=\"0\" y=\"{}\">{}</text>", top + 20, escaped(&panel.title));
    for (line, bar) in (0..).zip(&panel.bars) {
        let y = top + TITLE_HEIGHT + LINE_HEIGHT * line;
        let baseline = y + 14;
        let class = if bar.is_ours { "ours" } else { "other" };
        let _ = writeln!(drawn, "<text x=\"0\" y=\"{baseline}\">{}</text>", escaped(&bar.label));
        if bar.beyond.is_some() {
            draw_bar(drawn, &format!("{class} beyond"), y, width(end(bar)));
        }
        draw_bar(drawn, class, y, width(bar.value));
        let x = f64::from(LABELS_WIDTH) + width(end(bar)) + 8.0;
        let _ = writeln!(drawn, "<text x=\"{x:.1}\" y=\"{baseline}\">{}</text>", escaped(&bar.text));
    }
}

fn draw_bar(drawn: &mut String, class: &str, y: u32, width: f64) {
    let _ = writeln!(
        drawn,
        "<rect class=\"{class}\" x=\"{LABELS_WIDTH}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR_HEIGHT}\" rx=\"2\"/>"
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::workloads::Workload;

    #[test]
    fn the_longest_bar_fills_the_width_and_the_others_are_in_proportion() {
        let bar =
            |value, beyond| Bar { label: "a < b".into(), value, beyond, text: "1".into(), is_ours: true };
        let mut findings = Findings::of(Workload::Latency, String::new());
        findings
            .panels
            .push(Panel { title: "ms".into(), bars: vec![bar(10.0, Some(40.0)), bar(20.0, None)] });
        let svg = svg([&findings]);
        for part in
            ["width=\"440.0\"", "width=\"110.0\"", "width=\"220.0\"", "a &lt; b", "viewBox=\"0 0 840 100\""]
        {
            assert!(svg.contains(part), "{part} is not in {svg}");
        }
    }
}
