package harborlike

import (
	"archive/tar"
	"io"
	"io/fs"
)

// Member is a member of a tree.
type Member struct {
	Mode    fs.FileMode
	UID     int
	Link    string
	Content string
}

func treeOf(members map[string]Member) tree {
	t := make(tree)
	for name, m := range members {
		t[name] = member{m.Mode, m.UID, m.Link, []byte(m.Content)}
	}
	return t
}

// Pick returns the names that the patterns pick.
func Pick(members map[string]Member, patterns ...string) ([]string, error) {
	picked, err := treeOf(members).pick(patterns)
	return picked.names(), err
}

// Read returns the names that are read from an archive.
func Read(r io.Reader) ([]string, error) {
	t := make(tree)
	err := t.read(tar.NewReader(r))
	return t.names(), err
}

// WriteArchive writes the stack's images, of these layers.
func WriteArchive(w io.Writer, layers ...map[string]Member) error {
	var all []tree
	for _, layer := range layers {
		all = append(all, treeOf(layer))
	}
	return writeArchive(w, images(), all)
}

// Images returns the names of the images, and the users that they run as.
func Images() map[string]string {
	users := map[string]string{}
	for _, img := range images() {
		users[img.Name] = img.Config.User
	}
	return users
}

// RecipeKey returns the key of the images with that program in them.
func RecipeKey(program string) (string, error) {
	own, err := ownFiles([]byte(program))
	if err != nil {
		return "", err
	}
	return recipeKey(own)
}
