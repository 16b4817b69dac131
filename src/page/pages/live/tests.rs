use super::*;

#[test]
fn a_stream_belongs_to_a_page_with_what_it_looks_for() {
    assert_eq!(Page::of("/"), Some(Page::List));
    assert_eq!(Page::of("/fleet"), Some(Page::Fleet));
    assert_eq!(Page::of("/app/a"), Some(Page::Application("a".to_owned())));
    assert_eq!(Page::of("/app/a/start"), Some(Page::Start("a".to_owned())));
    for nothing in ["", "/keys", "/application", "nonsense\n", "/activity?newest=x"] {
        assert_eq!(Page::of(nothing), None, "{nothing}");
    }
    let one = Page::of("/activity?q=ann%20b&kind=people&newest=7&had=2");
    assert!(matches!(&one, Some(Page::Activity(filter)) if *filter != activity::Filter::default()), "{one:?}");
}
