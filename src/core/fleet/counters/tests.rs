use proptest::prelude::*;

use super::*;
use crate::fleet::{Per, View};

fn lb1() -> NodeName {
    NodeName::new("lb-1").unwrap()
}

fn backend(name: &str) -> BackendName {
    BackendName::new(name).unwrap()
}

fn server(name: &str, weight: u64, marks: &[Mark]) -> ServerNow {
    ServerNow {
        name: ServerName::new(name).unwrap(),
        weight: Weight::new(weight).unwrap(),
        initial: Weight::new(100).unwrap(),
        health: Health::Up,
        marks: marks.to_vec(),
    }
}

fn sums(requests: u64, errors: u64) -> Sums {
    let answered = requests;
    Sums {
        requests,
        errors,
        attempts: requests,
        answered,
        completed: answered,
        started: requests + 1,
        ..Sums::default()
    }
}

fn rows<T: Copy>(from: T, to: T) -> BTreeMap<String, T> {
    [("from".to_owned(), from), ("to".to_owned(), to)].into()
}

/// At 2026-11-27T00:00:03Z.
const AT: u64 = 1_795_737_603_000;
const LAST: u64 = AT / 10_000 - 1;

fn view() -> Viewed {
    let now = |weight, share| Now { sessions: 4, unread: false, rtime: 12, usable: 1, total: 1, weight, share };
    Viewed {
        id: View { sides: None, per: Per::Side }.id(),
        error: None,
        now: rows(now(90, 90.0), now(10, 10.0)),
        blocks: vec![
            Block { k: LAST - 1, covers: 0, sums: rows(sums(50, 0), sums(5, 0)), ..Block::default() },
            Block {
                k: LAST,
                covers: 1,
                torn: true,
                changed: [("to".to_owned(), Changed { weight: true, usable: true })].into(),
                sums: rows(sums(900, 2), sums(100, 9)),
                unserved: 3,
            },
        ],
        slots: vec![Slot {
            k: AT / 2000,
            from: SlotCounts::default(),
            to: SlotCounts { requests: 20, errors: 9, ..SlotCounts::default() },
        }],
    }
}

fn instance() -> Instance {
    Instance {
        name: "edge".into(),
        down: None,
        version: "2.6.12".into(),
        pid: Some(17),
        since: Some(Timestamp::from_seconds(AT / 1000)),
        mode: Protocol::Http,
        algorithm: "roundrobin".into(),
        flags: vec![Flag::Sticky],
        servers: vec![server("blue", 90, &[]), server("green", 10, &[Mark::Starting])],
        views: vec![view()],
    }
}

fn report() -> Counters {
    Counters {
        node: lb1(),
        mode: Mode::Enforce,
        incarnation: "f3".into(),
        at: AT,
        backends: vec![Counted { backend: backend("app1"), instances: vec![instance()] }],
        lacks: vec![backend("app3")],
        left_out: vec![LeftOut(backend("app9"), WhyLeftOut::Size)],
        more: 0,
    }
}

fn read(value: &[u8]) -> Result<Counters, BadReport> {
    Counters::parse(&lb1(), value)
}

#[test]
fn a_report_reads_as_it_is_written() {
    let value = String::from_utf8(report().to_value()).unwrap();
    let expected = concat!(
        r#"{"v":1,"node":"lb-1","mode":"enforce","incarnation":"f3","at":1795737603000,"backends":[{"backend":"app1","#,
        r#""instances":[{"name":"edge","version":"2.6.12","pid":17,"since":"2026-11-27T00:00:03Z","mode":"http","#,
        r#""algorithm":"roundrobin","flags":["sticky"],"#,
        r#""servers":[["blue",90,100,"up"],["green",10,100,"up",["starting"]]],"views":[{"id":"87dbe2a3","now":{"#,
        r#""from":{"sessions":4,"rtime":12,"usable":1,"total":1,"weight":90,"share":90.0},"#,
        r#""to":{"sessions":4,"rtime":12,"usable":1,"total":1,"weight":10,"share":10.0}},"blocks":["#,
        r#"{"k":179573758,"covers":0,"sums":{"from":[50,0,50,0,50,0,0,51,50,0,0,0,0,0],"to":[5,0,5,0,5,0,0,6,5,0,0,0,0,0]}},"#,
        r#"{"k":179573759,"torn":true,"changed":{"to":"wu"},"sums":{"from":[900,2,900,0,900,0,0,901,900,0,0,0,0,0],"#,
        r#""to":[100,9,100,0,100,0,0,101,100,0,0,0,0,0]},"unserved":3}],"#,
        r#""slots":[{"k":897868801,"from":[0,0,0,0,0,0,0],"to":[20,9,0,0,0,0,0]}]}]}]}],"#,
        r#""lacks":["app3"],"left_out":[["app9","size"]]}"#,
    );
    assert_eq!(value, expected);
    assert_eq!(read(value.as_bytes()), Ok(report()));
}

#[test]
fn the_first_answer_has_neither_blocks_nor_slots() {
    let mut first = report();
    let view = &mut first.backends[0].instances[0].views[0];
    (view.blocks, view.slots) = (Vec::new(), Vec::new());
    let value = String::from_utf8(first.clone().to_value()).unwrap();
    assert!(!value.contains("blocks") && !value.contains("slots"), "{value}");
    assert_eq!(read(value.as_bytes()), Ok(first));
}

#[test]
fn what_a_newer_version_adds_is_ignored() {
    let value = String::from_utf8(report().to_value()).unwrap();
    let newer = value
        .replace(r#"["starting"]]"#, r#"["starting","frozen"],7]"#)
        .replace(r#"["sticky"]"#, r#"["sticky","sideways"]"#)
        .replace(r#""to":[20,9,0,0,0,0,0]"#, r#""to":[20,9,0,0,0,0,0,4,5]"#)
        .replace(r#""pid":17"#, r#""pid":17,"threads":4"#);
    let read = read(newer.as_bytes()).unwrap();
    let instance = read.instance(&backend("app1"), "edge").unwrap();
    assert_eq!(instance.servers[1].marks, [Mark::Starting, Mark::Unknown]);
    assert_eq!(instance.flags, [Flag::Sticky, Flag::Unknown]);
    assert_eq!(instance.view(view().id).unwrap().slots[0].to.requests, 20);
}

#[test]
fn a_value_that_is_no_report_says_why() {
    assert!(matches!(read(b"{}"), Err(BadReport::Malformed(_))));
    assert_eq!(read(br#"{"v":2}"#), Err(BadReport::Version(2)));
    let large = vec![b' '; Counters::MAX_BYTES + 1];
    assert!(matches!(read(&large), Err(BadReport::TooLarge { .. })));
    let value = String::from_utf8(report().to_value()).unwrap();
    assert!(matches!(read(value.replace("900,2,900", "900,-2,900").as_bytes()), Err(BadReport::Malformed(_))));
    assert!(matches!(read(value.replace("900,2,900", "900,900").as_bytes()), Err(BadReport::Malformed(_))));
    assert!(matches!(
        read(value.replace(r#"90,100,"up""#, r#"300,100,"up""#).as_bytes()),
        Err(BadReport::Malformed(_))
    ));
}

#[test]
fn a_report_that_contradicts_itself_is_no_data() {
    type Spoil = fn(&mut Counters);
    let cases: [(&str, Spoil); 18] = [
        ("of node", |report| report.node = NodeName::new("lb-2").unwrap()),
        ("listed twice", |report| report.lacks.push(backend("app1"))),
        ("listed twice", |report| report.backends.push(report.backends[0].clone())),
        ("HAProxy is listed twice", |report| report.backends[0].instances.push(instance())),
        ("server blue is listed twice", |report| report.backends[0].instances[0].servers.push(server("blue", 1, &[]))),
        ("is listed twice", |report| report.backends[0].instances[0].views.push(view())),
        ("more usable servers", |report| spoil(report).now.get_mut("to").unwrap().usable = 2),
        ("a share of", |report| spoil(report).now.get_mut("to").unwrap().share = 101.0),
        ("more blocks", |report| spoil(report).blocks = vec![Block::default(); 4]),
        ("more blocks", |report| spoil(report).slots = vec![Slot::default(); 6]),
        ("does not follow", |report| spoil(report).blocks[1].covers = 2),
        ("does not follow", |report| spoil(report).blocks.reverse()),
        ("went backwards", |report| *spoil(report).blocks[0].sums.get_mut("to").unwrap() = sums(101, 0)),
        ("has not ended", |report| spoil(report).blocks[1].k = LAST + 1),
        ("more errors than requests", |report| spoil(report).blocks[1].sums.get_mut("to").unwrap().errors = 101),
        ("more answers by status", |report| spoil(report).blocks[1].sums.get_mut("to").unwrap().refused = 101),
        ("more masked", |report| spoil(report).blocks[1].sums.get_mut("to").unwrap().masked = 101),
        ("has not begun", |report| spoil(report).slots[0].k += 1),
    ];
    for (what, change) in cases {
        let mut spoiled = report();
        change(&mut spoiled);
        match read(&spoiled.encoded()) {
            Err(BadReport::Contradicts(why)) => assert!(why.contains(what), "{what}: {why}"),
            other => panic!("{what}: {other:?}"),
        }
    }
}

fn spoil(report: &mut Counters) -> &mut Viewed {
    &mut report.backends[0].instances[0].views[0]
}

#[test]
fn sums_that_went_backwards_have_no_difference() {
    assert_eq!(sums(9, 1).since(sums(4, 1)), Some(Sums { started: 5, ..sums(5, 0) }));
    assert_eq!(sums(9, 1).since(sums(4, 2)), None);
}

#[test]
fn a_server_is_usable_by_its_health_and_its_marks() {
    assert!(server("a", 0, &[Mark::Starting, Mark::Agent]).usable());
    for mark in [Mark::Maint, Mark::Drain, Mark::Slot, Mark::Backup] {
        assert!(!server("a", 1, &[mark]).usable(), "{mark:?}");
    }
    let with = |health, weight| ServerNow { health, ..server("a", weight, &[]) };
    assert!(!with(Health::Down, 1).usable());
    assert!(with(Health::Unknown, 1).usable() && !with(Health::Unknown, 0).usable());
}

/// A report on this many backends with this many servers each.
fn large(backends: usize, servers: usize) -> Counters {
    let counted = |n: usize| {
        let mut instance = instance();
        instance.servers = (0..servers).map(|s| server(&format!("server-{s}"), 1, &[])).collect();
        Counted { backend: backend(&format!("app{n}")), instances: vec![instance] }
    };
    Counters { backends: (0..backends).map(counted).collect(), lacks: Vec::new(), left_out: Vec::new(), ..report() }
}

fn names(report: &Counters) -> Vec<&str> {
    report.backends.iter().map(|counted| counted.backend.as_str()).collect()
}

#[test]
fn fifty_backends_with_failing_sides_fit() {
    let mut fifty = large(50, 4);
    fifty.backends.iter_mut().for_each(|counted| {
        let view = &mut counted.instances[0].views[0];
        view.slots = (0..5).map(|n| Slot { k: AT / 2000 - 4 + n, ..view.slots[0] }).collect();
    });
    let read = read(&fifty.to_value()).unwrap();
    assert_eq!((read.backends.len(), read.left_out.len()), (50, 0));
}

#[test]
fn where_space_is_short_each_view_keeps_its_last_block() {
    let value = large(50, 40).to_value();
    assert!(value.len() <= Counters::MAX_BYTES);
    let read = read(&value).unwrap();
    for counted in &read.backends {
        let blocks = &counted.instances[0].views[0].blocks;
        assert_eq!(blocks.iter().map(|block| (block.k, block.covers)).collect::<Vec<_>>(), [(LAST, 1)]);
    }
}

#[test]
fn backends_that_do_not_fit_are_left_out_and_named() {
    let read = read(&large(60, 60).to_value()).unwrap();
    assert_eq!(read.backends.len() + read.left_out.len(), 60);
    assert!(!read.backends.is_empty() && !read.left_out.is_empty());
    assert_eq!(names(&read)[0], "app0", "the one that was observed first stays");
    assert!(read.left_out.iter().all(|LeftOut(_, why)| *why == WhyLeftOut::Size));
}

#[test]
fn a_backend_that_is_too_large_alone_does_not_push_out_others() {
    let mut report = large(3, 2);
    report.backends[0].instances[0].servers = (0..5000).map(|n| server(&format!("s{n}"), 1, &[])).collect();
    let read = read(&report.to_value()).unwrap();
    assert_eq!(names(&read), ["app1", "app2"]);
    assert_eq!(read.left_out, [LeftOut(backend("app0"), WhyLeftOut::Size)]);
}

#[test]
fn more_backends_than_a_node_reads_are_counted() {
    let mut report = large(Counters::MAX_BACKENDS + 100, 1);
    report.lacks = (0..100).map(|n| backend(&format!("lacks-{n}"))).collect();
    let read = read(&report.to_value()).unwrap();
    assert_eq!(read.left_out[0], LeftOut(backend("app64"), WhyLeftOut::Backends));
    assert_eq!((read.lacks.len(), read.left_out.len(), read.more), (64, 64, 36 + 36));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_value_is_never_too_large_and_names_every_backend(
        sizes in proptest::collection::vec((1..255usize, 0..60usize), 0..70),
        text in "\\PC{0,500}",
    ) {
        let mut report = large(0, 0);
        report.backends = sizes.iter().enumerate().map(|(n, (length, servers))| {
            let mut counted = large(1, *servers).backends.remove(0);
            counted.backend = backend(&format!("{n:0length$}"));
            counted.instances[0].down = Some(text.clone());
            counted.instances[0].views[0].error = Some(text.clone());
            counted
        }).collect();
        let distinct: std::collections::BTreeSet<_> = report.backends.iter().map(|counted| counted.backend.clone()).collect();
        prop_assume!(distinct.len() == report.backends.len());
        let value = report.to_value();
        prop_assert!(value.len() <= Counters::MAX_BYTES, "{}", value.len());
        let read = read(&value).unwrap();
        prop_assert_eq!(read.backends.len() + read.left_out.len() + read.more, sizes.len());
    }
}
