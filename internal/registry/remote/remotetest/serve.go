package remotetest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/mooring-sh/mooring/internal/registry"
)

// note counts a request, and remembers it.
func (r *Registry) note(req *http.Request, elsewhere bool) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, Request{
		Method: req.Method, Path: req.URL.Path, Query: req.URL.RawQuery, UserAgent: req.UserAgent(),
		Authorization: req.Header.Get("Authorization"), Range: req.Header.Get("Range"), Elsewhere: elsewhere,
	})
	key := req.Method + " " + req.URL.Path
	n := r.counts[key]
	r.counts[key]++
	return n
}

func (r *Registry) serve(w http.ResponseWriter, req *http.Request) {
	n := r.note(req, false)
	if r.Rules.Meddle != nil {
		if h := r.Rules.Meddle(req, n); h != nil {
			h.ServeHTTP(w, req)
			return
		}
	}
	switch path := req.URL.Path; {
	case path == "/service/token":
		r.serveToken(w, req)
	case strings.HasPrefix(path, "/api/v2.0/projects/") && r.Rules.Harbor:
		r.serveProject(w, req)
	case path == "/v2/":
		if r.authorized(w, req, "") {
			answer(w, map[string]string{})
		}
	case path == "/v2/_catalog":
		if r.authorized(w, req, "_catalog") {
			r.serveCatalogue(w, req)
		}
	default:
		r.serveRepository(w, req)
	}
}

// serveRepository finds out what in which repository is wanted.
func (r *Registry) serveRepository(w http.ResponseWriter, req *http.Request) {
	rest, ok := strings.CutPrefix(req.URL.Path, "/v2/")
	if !ok {
		http.NotFound(w, req)
		return
	}
	for _, what := range []string{"/tags/list", "/manifests/", "/blobs/", "/referrers/"} {
		repo, name, found := strings.Cut(rest, what)
		if !found {
			continue
		}
		if !r.authorized(w, req, repo) {
			return
		}
		r.mu.Lock()
		rep := r.repositories[repo]
		r.mu.Unlock()
		if rep == nil {
			refuse(w, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
			return
		}
		switch what {
		case "/tags/list":
			r.serveTags(w, req, repo, rep)
		case "/manifests/":
			r.serveManifest(w, req, rep, name)
		case "/blobs/":
			r.serveBlob(w, req, rep, registry.Digest(name))
		case "/referrers/":
			r.serveReferrers(w, req, rep, name)
		}
		return
	}
	http.NotFound(w, req)
}

// token is what the token service hands out: the scope, readable, and good for nothing else.
func token(scope string) string {
	return base64.RawURLEncoding.EncodeToString([]byte("token for " + scope))
}

// authorized answers with the challenge that the rules lay down, unless the request may go on. repo is empty for /v2/.
func (r *Registry) authorized(w http.ResponseWriter, req *http.Request, repo string) bool {
	given := req.Header.Get("Authorization")
	scope := "repository:" + repo + ":pull"
	user, password, basic := req.BasicAuth()
	known := basic && user == r.Rules.User && password == r.Rules.Password
	switch {
	case r.Rules.Scheme == Nobody:
		return true
	case known && (r.Rules.Scheme == Basic || r.Rules.Harbor) && r.allowed(repo):
		return true
	case r.Rules.Scheme == Token && repo != "_catalog" && given == "Bearer "+token(scope) && r.allowed(repo):
		return true
	case r.Rules.Scheme == Token && repo == "" && strings.HasPrefix(given, "Bearer "):
		return true
	}
	switch {
	case r.Rules.Scheme == Basic, r.Rules.Harbor && (given != "" || repo == "_catalog"):
		w.Header().Set("WWW-Authenticate", `Basic realm="harbor"`)
		if !r.Rules.Harbor {
			w.Header().Set("WWW-Authenticate", `Basic realm="basic-realm"`)
		}
	default:
		challenge := fmt.Sprintf(`Bearer realm="%s/service/token",service="%s"`, r.Server.URL, r.service())
		if repo != "" {
			challenge += fmt.Sprintf(`,scope="%s"`, scope)
		}
		w.Header().Set("WWW-Authenticate", challenge)
	}
	refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "unauthorized to access repository: "+repo)
	return false
}

func (r *Registry) service() string {
	if r.Rules.Harbor {
		return "harbor-registry"
	}
	return "registry.example.com"
}

func (r *Registry) allowed(repo string) bool {
	project, _, _ := strings.Cut(repo, "/")
	switch repo {
	case "":
		return true
	case "_catalog":
		return r.Rules.Catalogue
	default:
		return r.Rules.Projects == nil || slices.Contains(r.Rules.Projects, project)
	}
}

// serveToken gives a token for whatever is asked for: what it is good for is decided where it is shown, as in Harbor.
func (r *Registry) serveToken(w http.ResponseWriter, req *http.Request) {
	user, password, _ := req.BasicAuth()
	if user != r.Rules.User || password != r.Rules.Password || req.FormValue("service") != r.service() {
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
		return
	}
	answer(w, map[string]any{"token": token(req.FormValue("scope")), "expires_in": 300})
}

// serveProject is Harbor's own API.
func (r *Registry) serveProject(w http.ResponseWriter, req *http.Request) {
	project := strings.TrimSuffix(strings.TrimPrefix(req.URL.Path, "/api/v2.0/projects/"), "/repositories")
	user, password, _ := req.BasicAuth()
	if user != r.Rules.User || password != r.Rules.Password || !r.allowed(project+"/") {
		refuse(w, http.StatusForbidden, "FORBIDDEN", "forbidden")
		return
	}
	page, _ := strconv.Atoi(req.FormValue("page"))
	size, _ := strconv.Atoi(req.FormValue("page_size"))
	var all []map[string]string
	for _, name := range r.names() {
		if strings.HasPrefix(name, project+"/") {
			all = append(all, map[string]string{"name": name})
		}
	}
	from := min(len(all), (page-1)*size)
	answer(w, all[from:min(len(all), from+size)])
}

func (r *Registry) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.repositories))
}

func (r *Registry) serveCatalogue(w http.ResponseWriter, req *http.Request) {
	if n, _ := strconv.Atoi(req.FormValue("n")); r.Rules.PageSize > 0 && n > r.Rules.PageSize {
		refuse(w, http.StatusBadRequest, "PAGINATION_NUMBER_INVALID", "invalid number of results requested")
		return
	}
	answer(w, map[string]any{"repositories": r.page(w, req, r.names())})
}

func (r *Registry) serveTags(w http.ResponseWriter, req *http.Request, repo string, rep *repository) {
	r.mu.Lock()
	tags := slices.Sorted(maps.Keys(rep.tags))
	r.mu.Unlock()
	answer(w, map[string]any{"name": repo, "tags": r.page(w, req, tags)})
}

// page returns the page that is asked for, and names the next one by a relative URL.
func (r *Registry) page(w http.ResponseWriter, req *http.Request, all []string) []string {
	last := req.FormValue("last")
	from, found := slices.BinarySearch(all, last)
	if found {
		from++
	}
	all = all[from:]
	size := len(all)
	if r.Rules.PageSize > 0 {
		size = min(size, r.Rules.PageSize)
	}
	if size < len(all) {
		next := url.Values{"last": {all[size-1]}, "n": {strconv.Itoa(size)}}
		w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, req.URL.Path, next.Encode()))
	}
	return all[:size]
}

func (r *Registry) serveManifest(w http.ResponseWriter, req *http.Request, rep *repository, reference string) {
	r.mu.Lock()
	d, tagged := rep.tags[reference]
	if !tagged {
		d = registry.Digest(reference)
	}
	linked, s := rep.manifests[d], r.blobs[d]
	var content []byte
	var mediaType string
	if s != nil {
		content, mediaType = s.content, s.mediaType
		linked = linked && !s.gone
	}
	r.mu.Unlock()
	switch {
	case !linked || s == nil:
		refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
	case len(content) == 0: // distribution tries to parse it
		refuse(w, http.StatusInternalServerError, "UNKNOWN", "unknown error")
	default:
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Docker-Content-Digest", string(d))
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		if req.Method != http.MethodHead {
			_, _ = w.Write(content)
		}
	}
}

func (r *Registry) serveReferrers(w http.ResponseWriter, req *http.Request, rep *repository, subject string) {
	if !r.Rules.Referrers {
		http.NotFound(w, req)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	found := []registry.Descriptor{}
	for _, d := range slices.Sorted(maps.Keys(rep.manifests)) {
		if m, err := registry.ParseManifest(r.blobs[d].content); err == nil && m.Subject != nil && string(m.Subject.Digest) == subject {
			found = append(found, registry.Descriptor{MediaType: m.MediaType, Digest: d, Size: int64(r.blobs[d].size)})
		}
	}
	w.Header().Set("Content-Type", registry.OCIIndex)
	_ = json.NewEncoder(w).Encode(map[string]any{"schemaVersion": 2, "mediaType": registry.OCIIndex, "manifests": found})
}

func (r *Registry) serveBlob(w http.ResponseWriter, req *http.Request, rep *repository, d registry.Digest) {
	r.mu.Lock()
	s := r.blobs[d]
	linked := s != nil && rep.blobs[d] && (r.Rules.Warm || !s.gone)
	r.mu.Unlock()
	switch {
	case !linked:
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
	case r.Rules.Elsewhere && req.Method == http.MethodGet:
		http.Redirect(w, req, r.Storage.URL+"/"+d.Hex()+"?signature=s3cr3t", http.StatusTemporaryRedirect)
	default:
		r.send(w, req, s)
	}
}

// serveStorage is the other server. It refuses whoever shows credentials beside the signature, as object storage does.
func (r *Registry) serveStorage(w http.ResponseWriter, req *http.Request) {
	r.note(req, true)
	if req.Header.Get("Authorization") != "" || req.FormValue("signature") != "s3cr3t" {
		http.Error(w, "only one auth mechanism allowed", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	s := r.blobs[registry.Digest("sha256:"+strings.TrimPrefix(req.URL.Path, "/"))]
	r.mu.Unlock()
	if s == nil {
		http.NotFound(w, req)
		return
	}
	r.send(w, req, s)
}

// send sends a blob as distribution does: of the size that it believes it has, from where the range begins, until what is there ends; then it cuts the connection.
func (r *Registry) send(w http.ResponseWriter, req *http.Request, s *stored) {
	r.mu.Lock()
	content, size := s.content, len(s.content)
	if r.Rules.Warm {
		size = s.size
	}
	r.mu.Unlock()
	from, status := 0, http.StatusOK
	if ranged, ok := strings.CutPrefix(req.Header.Get("Range"), "bytes="); ok {
		from, _ = strconv.Atoi(strings.TrimSuffix(ranged, "-"))
		if from >= size {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", size))
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, size-1, size))
		status = http.StatusPartialContent
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(size-from))
	w.WriteHeader(status)
	if req.Method == http.MethodHead {
		return
	}
	_, _ = w.Write(content[min(from, len(content)):])
	if len(content) < size {
		cut(w)
	}
}

// cut ends the connection where it is.
func cut(w http.ResponseWriter) {
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// Status answers with a status, a Retry-After unless it is empty, and an error body.
func Status(status int, retryAfter string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		refuse(w, status, "MEDDLED", http.StatusText(status))
	})
}

// Text answers with 200 and a text of this media type.
func Text(mediaType, text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		_, _ = io.WriteString(w, text)
	})
}

// CutAfter promises so many bytes, sends some, and cuts the connection.
func CutAfter(promised int, some []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(promised))
		_, _ = w.Write(some)
		cut(w)
	})
}

// Stall promises so many bytes, sends some, and then nothing until whoever asked is gone.
func Stall(promised int, some []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(promised))
		_, _ = w.Write(some)
		_ = http.NewResponseController(w).Flush()
		<-req.Context().Done()
	})
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
}

func answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}
