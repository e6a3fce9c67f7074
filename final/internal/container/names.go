package container

// The two halves of the name of a container that nobody has named, as docker makes them up.
var (
	moods = []string{
		"brave", "bright", "busy", "calm", "clever", "curious", "eager", "gentle", "happy", "honest",
		"jolly", "keen", "kind", "lively", "lucid", "modest", "nimble", "patient", "quiet", "relaxed",
		"serene", "sharp", "sunny", "tender", "vivid", "wise",
	}
	surnames = []string{
		"ampere", "banach", "bell", "bohr", "curie", "darwin", "dijkstra", "einstein", "euler", "fermi",
		"galois", "gauss", "goodall", "hamilton", "hopper", "johnson", "kepler", "liskov", "lovelace",
		"meitner", "newton", "noether", "pasteur", "ritchie", "shannon", "thompson", "torvalds", "turing",
		"wozniak", "wu",
	}
)
