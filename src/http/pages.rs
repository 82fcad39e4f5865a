//! The parts that the HTML pages share: the frame, the style and the format of ages.
//!
//! The pages use no scripts and follow the system's light or dark mode. maud escapes all text.

pub(super) mod landing;

use maud::{DOCTYPE, Markup, html};

/// The style of all pages. Below 70 rem, the widest table (nine columns) doesn't fit, so each row becomes a card whose
/// cells show their column names. No page scrolls sideways.
const STYLE: &str = "
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 84rem; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; }
table { border-collapse: collapse; font-size: .95rem; width: 100%; }
th, td { border-bottom: 1px solid #8884; padding: .35rem .8rem .35rem 0; text-align: left; vertical-align: top; }
th { font-size: .85rem; white-space: nowrap; }
td { min-width: 4.5rem; }
td > a { color: inherit; text-decoration-color: #8888; }
.fixed { min-width: 0; white-space: nowrap; }
.sid { font: .85rem/1.5 ui-monospace, monospace; }
.call { min-width: 17ch; max-width: 17ch; }
.quiet, .age, .detail { color: light-dark(#5a5a5a, #a8a8a8); }
.age, .detail { display: block; font-size: .85rem; white-space: nowrap; }
.bad { color: light-dark(#b3261e, #ff8a80); font-weight: 600; }
form { display: grid; gap: .6rem 1rem; grid-template-columns: repeat(5, 1fr); align-items: end; margin: 1rem 0; }
label { display: grid; font-size: .85rem; }
input, select, button { box-sizing: border-box; font: inherit; font-size: 1rem; min-width: 0; height: 2.25rem; padding: .3rem .4rem; width: 100%; }
.more { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; }
@media (max-width: 70rem) {
  form { grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); }
  table, tr, td { display: block; }
  thead { clip-path: inset(50%); height: 1px; overflow: hidden; position: absolute; width: 1px; }
  tbody { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); }
  tr { border: 1px solid #8888; border-radius: .5rem; padding: .4rem .8rem; }
  td { border: 0; max-width: none; min-height: 1.5em; padding: .15rem 0 .15rem 6.25rem; position: relative; white-space: normal; }
  td[colspan] { padding-left: 0; }
  td::before { color: light-dark(#5a5a5a, #a8a8a8); content: attr(data-label); font: .85rem/1.75 system-ui, sans-serif; left: 0; position: absolute; }
  .age, .detail { display: inline-block; }
}
";

/// Returns a page with this body.
pub(super) fn frame(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (maud::PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    }
}

/// Formats an age in the largest unit that fits.
pub(super) fn age(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    let (amount, unit) = match seconds {
        s if s < 120.0 => (s, "s"),
        s if s < 7_200.0 => (s / 60.0, "min"),
        s if s < 172_800.0 => (s / 3_600.0, "h"),
        s => (s / 86_400.0, "d"),
    };
    format!("{amount:.0} {unit}")
}
