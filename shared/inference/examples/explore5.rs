//! scratch: gate
#![allow(clippy::all, clippy::pedantic, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, clippy::allow_attributes_without_reason, missing_docs, clippy::panic)]
use facewire_domain::*; use facewire_inference::*; use facewire_vision::*; use std::path::*; use std::collections::*;
fn rt()->OnnxRuntime{OnnxRuntime::load(Path::new("/tmp/art/ort/onnxruntime/capi/libonnxruntime.so.1.31.1")).unwrap()}
fn cos(a:&[f32],b:&[f32])->f32{a.iter().zip(b).map(|(x,y)|x*y).sum()}
fn main(){
 let pack=Pack::open(Path::new("/tmp/fw/default")).unwrap(); let rt=rt(); let o=SessionOptions::default();
 let mut finder=pack.finder(&rt,&o).unwrap(); let mut emb=pack.embedder(&rt,&o).unwrap();
 let data=Path::new("/work/shared/data"); let verbose=std::env::args().any(|a|a=="-v");
 let mut files:Vec<(PathBuf,String)>=vec![];
 // identity by union find
 let csv=std::fs::read_to_string(data.join("pairs/pairs.csv")).unwrap(); let mut id:HashMap<String,String>=HashMap::new();
 for l in csv.lines().skip(1){let p:Vec<&str>=l.split(',').collect(); for x in &p[..2]{id.entry(x.to_string()).or_insert(x.to_string());} if p[2]=="1"{let (a,b)=(id[p[0]].clone(),id[p[1]].clone()); for v in id.values_mut(){if *v==b{*v=a.clone()}}}}
 for p in id.keys(){files.push((data.join("pairs").join(p),id[p].clone()))}
 for d in std::fs::read_dir(data.join("people/enroll")).unwrap(){let d=d.unwrap(); for f in std::fs::read_dir(d.path()).unwrap(){files.push((f.unwrap().path(),d.file_name().to_string_lossy().into_owned()))}}
 for (f,w) in [("obama_partial_face","obama"),("johnsnow_test1","kit_harington"),("obama1","obama"),("alex_lacamoire1","alex_lacamoire")]{files.push((data.join(format!("people/probe/{f}.jpg")),w.into()))}
 for f in std::fs::read_dir("/tmp/art/fr/face_recognition-1.3.0/tests/test_images").unwrap(){let f=f.unwrap().path(); if f.extension().map(|e|e=="jpg").unwrap_or(false){let w=if f.file_name().unwrap().to_string_lossy().starts_with("biden"){"biden"}else{"obama"}; files.push((f,w.into()))}}
 files.sort(); let limits=GateLimits::default();
 let imgs:Vec<(String,String,RgbImage)>=files.iter().map(|(f,w)|(f.file_name().unwrap().to_string_lossy().into_owned(),w.clone(),decode(&std::fs::read(f).unwrap(),&DecodeLimits::default()).unwrap())).collect();
 // gallery: all clean
 let mut gal=vec![]; let mut boxes=vec![]; let mut rej=0;
 for (i,(n,w,img)) in imgs.iter().enumerate(){ let ff=finder.find(img).unwrap(); 
   let big=ff.iter().max_by(|a,b|a.bbox.area().total_cmp(&b.bbox.area())).cloned();
   let s:Vec<String>=ff.iter().map(|f|{let m=measure(img,f).unwrap();format!("[{:.0}px drift {:.3} ls {:.2} blur {:.0} br {:.2} pose {:.0}/{:.0}/{:.0}]",f.bbox.width().min(f.bbox.height()),f.drift,m.quality.landmarks_score,m.quality.blur,m.quality.brightness,m.quality.pose.yaw,m.quality.pose.pitch,m.quality.pose.roll)}).collect();
   let j=if ff.len()==1{match limits.judge(&measure(img,&ff[0]).unwrap().quality){Ok(())=>String::new(),Err(r)=>{rej+=1;format!("REJ {:?}",r.detail)}}}else{rej+=1;format!("REJ n={}",ff.len())};
   if verbose||!j.is_empty(){if false {println!("{n:28} {w:16} {}x{} {} {j}",img.width(),img.height(),s.join(" "));}}
   if let Some(f)=big{ let m=measure(img,&f).unwrap(); gal.push((i,w.clone(),emb.embed(&[m.face]).unwrap().remove(0))); } boxes.push(big);
 }
 println!("clean whole images: {} rejected {rej}",imgs.len());

 // sweep
 #[derive(Clone)] struct R{kind:&'static str,s:f32,q:Quality,v:u8,drift:f32}
 let mut rows:Vec<R>=vec![]; let mut none=BTreeMap::<(String,String),usize>::new();
 for (i,(_n,w,img)) in imgs.iter().enumerate(){ let Some(b)=boxes[i] else{continue}; let side=b.bbox.width().min(b.bbox.height());
  for mg in [0.05f32,0.4]{ let src0=degrade::cut_out(img,&b.bbox,mg);
   // bring to face 120 px
   let k=(120.0/side).min(1.0); let src=degrade::shrink(&src0,(src0.width() as f32*k) as u32,(src0.height() as f32*k) as u32); let fs=side*k;
   let mut cases:Vec<(&'static str,f32,RgbImage)>=vec![];
   for s in [0.01f32,0.02,0.025,0.03,0.035,0.04,0.05,0.06]{cases.push(("gauss",s,degrade::gaussian(&src,fs*s)));}
   for s in [0.06f32,0.1,0.14,0.18]{cases.push(("motion",s,degrade::motion(&src,(fs*s) as u32)));}
   for s in [0.4f32,0.3,0.2,0.15,0.1,0.07]{cases.push(("dark",s,degrade::recompress(&degrade::darken(&src,s,1.3),80)));}
   for s in [16f32,20.0,24.0,28.0,32.0,36.0,40.0,48.0,56.0]{let k=s/fs; let sm=degrade::shrink(&src,(src.width() as f32*k) as u32,(src.height() as f32*k) as u32); cases.push(("small",s,degrade::recompress(&degrade::rotate(&sm,18.0,1.0),60)));}
   for s in [30f32,45.0,60.0]{cases.push(("tilt",s,degrade::rotate(&src,s,1.0)));}
   for (kind,s,d) in cases{ let ff=finder.find(&d).unwrap(); if ff.len()!=1{*none.entry((format!("{kind} {s}"),if ff.is_empty(){"none".into()}else{"multi".into()})).or_default()+=1;continue}
    let m=measure(&d,&ff[0]).unwrap(); let e=emb.embed(&[m.face.clone()]).unwrap().remove(0); let others=gal.iter().any(|g|g.0!=i&&&g.1==w);
    let best=gal.iter().filter(|g|if others{g.0!=i}else{true}).map(|g|(cos(&g.2,&e),&g.1)).max_by(|a,b|a.0.total_cmp(&b.0)).unwrap(); let v=if best.0<0.36{0}else if best.1==w{1}else{2};
    rows.push(R{kind,s,q:m.quality,v,drift:ff[0].drift}); } } }
 let table=|name:&str,f:&dyn Fn(&R)->f32,kinds:&[&str],edges:&[f32]|{ println!("-- {name} {kinds:?}"); for w in edges.windows(2){ let sel:Vec<&R>=rows.iter().filter(|r|kinds.contains(&r.kind)&&f(r)>=w[0]&&f(r)<w[1]).collect(); let bad=sel.iter().filter(|r|r.v!=1).count(); let wrong=sel.iter().filter(|r|r.v==2).count(); println!("  [{:.2},{:.2}) n={} fail={} ({:.1}%) wrong={wrong}",w[0],w[1],sel.len(),bad,100.0*bad as f32/sel.len().max(1) as f32);} };
 for k in ["gauss","motion","dark","small","tilt"]{ let mut st:Vec<f32>=rows.iter().filter(|r|r.kind==k).map(|r|r.s).collect(); st.sort_by(f32::total_cmp); st.dedup(); for s in st{ let sel:Vec<&R>=rows.iter().filter(|r|r.kind==k&&r.s==s).collect(); let bad=sel.iter().filter(|r|r.v!=1).count(); let med=|f:&dyn Fn(&R)->f32|{let mut v:Vec<f32>=sel.iter().map(|r|f(r)).collect(); v.sort_by(f32::total_cmp); (v[v.len()/10],v[v.len()/2],v[v.len()*9/10])}; println!("{k} {s}: n={} fail={bad} blur {:?} bright {:?} size {:?} ls {:?} drift {:?} det {:?}",sel.len(),med(&|r|r.q.blur),med(&|r|r.q.brightness),med(&|r|r.q.face_size),med(&|r|r.q.landmarks_score),med(&|r|r.drift),med(&|r|r.q.detection_score)); } }
 println!("not single: {none:?}");
 table("blur",&|r|r.q.blur,&["gauss","motion"],&[0.0,5.0,10.0,15.0,20.0,25.0,30.0,40.0,50.0,60.0,80.0,100.0,150.0,300.0,1e9]);
 table("bright",&|r|r.q.brightness,&["dark"],&[0.0,0.01,0.02,0.03,0.04,0.05,0.06,0.08,0.1,0.12,0.15,0.2,1.0]);
 table("darkblur",&|r|r.q.blur,&["dark"],&[0.0,5.0,10.0,20.0,30.0,40.0,60.0,80.0,100.0,200.0,1e9]);
 table("size",&|r|r.q.face_size,&["small"],&[0.0,14.0,18.0,20.0,22.0,24.0,26.0,28.0,30.0,32.0,36.0,40.0,50.0,100.0]);
 table("smallblur",&|r|r.q.blur,&["small"],&[0.0,5.0,10.0,20.0,30.0,40.0,60.0,80.0,100.0,200.0,1e9]);
 table("ls all",&|r|r.q.landmarks_score,&["gauss","motion","dark","small","tilt"],&[0.0,0.1,0.2,0.3,0.4,0.45,0.5,0.55,0.6,0.65,0.7,0.8,0.9,1.0]);
 table("drift all",&|r|r.drift,&["gauss","motion","dark","small","tilt"],&[0.0,0.05,0.075,0.1,0.125,0.15,0.175,0.2,0.25,0.3,0.4,1.0]);
 table("drift tilt",&|r|r.drift,&["tilt"],&[0.0,0.05,0.075,0.1,0.125,0.15,0.175,0.2,0.25,0.3,0.4,1.0]);
 table("roll",&|r|r.q.pose.roll.abs(),&["tilt"],&[0.0,20.0,30.0,40.0,50.0,55.0,60.0,65.0,70.0,180.0]);
}
